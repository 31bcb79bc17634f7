"""Small real files to train on: image folders, CIFAR-10's own layout; and a cache of one's own."""

import os
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bench.experiments.data import datasets
from bench.experiments.training import frozen_features, pretrained_weights

SHARED = Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Keep downloads and decoded images of a test in its own folder, without any network."""
    cache = tmp_path / "cache"
    monkeypatch.setenv("BENCH_CACHE", str(cache))
    monkeypatch.setenv("BENCH_OFFLINE", "1")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    _forget()
    yield cache
    _forget()
    torch.set_num_threads(threads)


@pytest.fixture
def forget() -> Callable[[], None]:
    """Return what makes this process forget what it keeps, as a fresh worker would find it."""
    return _forget


def _forget() -> None:
    datasets.load.cache_clear()
    pretrained_weights.read.cache_clear()
    frozen_features._kept.clear()


@pytest.fixture
def write_images() -> Callable[..., Path]:
    """Return what writes a folder of images."""
    return _write_images


def _write_images(
    root: Path, counts: dict[str, int], *, side: int = 16, suffix: str = "png"
) -> Path:
    """Write {train,test}/CLASS/*: noise around a colour of the class, `counts` images a class."""
    rng = np.random.default_rng(0)
    for split, count in counts.items():
        for label, name in enumerate(("cat", "dog", "eel")):
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 160, (side, side, 3)) + 40 * np.eye(3, dtype=int)[label]
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i:04}.{suffix}")
    return root


@pytest.fixture
def image_folder(tmp_path: Path) -> Path:
    """Return a folder of three classes: 12 training and 4 test images each, 16 x 16."""
    return _write_images(tmp_path / "animals", {"train": 12, "test": 4})


def shared(name: str) -> Path:
    """Return a file of ../shared/data, or skip the test."""
    if not (SHARED / name).is_file():
        pytest.skip(f"needs {name} in {SHARED}")
    return SHARED / name


@pytest.fixture(scope="session")
def real_weights() -> Path:
    """Return a ResNet-18 trained on CIFAR-10 images."""
    return shared("resnet18-standin.pt")


@pytest.fixture(scope="session")
def real_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return CIFAR-10 images: a class, 110 for training and 50 for testing."""
    archive = shared("cifar10-jpeg-small.zip")
    root = tmp_path_factory.mktemp("real")
    with zipfile.ZipFile(archive) as source:
        for name in source.namelist():
            _, split, _, image = name.split("/")
            if int(image.removesuffix(".jpg")) < {"train": 110, "test": 50}[split]:
                source.extract(name, root)
    return root / "cifar10-jpeg"


@pytest.fixture
def touches(tmp_path: Path) -> tuple[object, Callable[[], bool]]:
    """Return an object that creates a file when it is unpickled, and whether it did."""
    trace = tmp_path / "this code was run"

    class Touch:
        def __reduce__(self) -> tuple[object, ...]:
            return os.mkdir, (str(trace),)

    return Touch(), trace.exists
