"""Data sets: digits, CIFAR-10 or a folder of images, as uint8 tensors; subsets of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.cache import cache_dir
from bench.experiments.data.download_cache import (
    Decoded,
    DownloadFailed,
    NotKept,
    content_digest,
    download,
    offline,
    reachable,
    shown,
)
from bench.experiments.data.readers import (
    ANOTHER,
    CIFAR10_ARCHIVE,
    CIFAR10_NEEDED,
    CIFAR10_SHA256,
    CIFAR10_URL,
    BadDataset,
    is_cifar10,
    read_cifar10,
    read_image_folder,
    recognise,
)

Indices = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Images:
    """A data set with a fixed test set.

    Attributes
    ----------
    digest : sha256 over the class names, pixels and labels
    train, test : uint8, shape (N, channels, H, W)
    train_labels, test_labels : int64, shape (N,), positions in `classes`
    """

    name: str
    digest: str
    classes: tuple[str, ...]
    train: Tensor
    train_labels: Tensor
    test: Tensor
    test_labels: Tensor

    def facts(self) -> dict[str, Any]:
        """Return what a run records about its data."""
        return {
            "name": self.name,
            "digest": self.digest,
            "train_pool": len(self.train),
            "test": len(self.test),
            "classes": len(self.classes),
            "train_test_overlap": self.overlap(),
        }

    def overlap(self) -> int:
        """Count the test images that are, byte for byte, also training images."""
        known = {image.numpy().tobytes() for image in self.train}
        return sum(image.numpy().tobytes() in known for image in self.test)


def _images(name: str, found: Decoded) -> Images:
    tensors = {split: torch.from_numpy(array) for split, array in found.arrays.items()}
    return Images(name, found.digest, found.classes, **tensors)


# Subsets


def stratified(labels: Tensor, per_class: Sequence[int], rng: np.random.Generator) -> list[Indices]:
    """Draw disjoint subsets with the same number of examples of every class.

    Parameters
    ----------
    labels : shape (N,), 0 to K - 1
    per_class : one number a subset: (100, 100) draws 100 examples a class twice

    Returns
    -------
    positions in `labels`, class by class: shuffle them before training

    Raises
    ------
    BadDataset : a class with fewer examples than asked for
    """
    known = labels.numpy()
    cuts = np.cumsum(per_class)
    parts: list[list[Indices]] = [[] for _ in per_class]
    for label in range(int(known.max()) + 1):
        drawn = rng.permutation(np.flatnonzero(known == label))
        if len(drawn) < cuts[-1]:
            raise BadDataset(f"class {label} has {len(drawn)} images; {cuts[-1]} are needed.")
        for part, piece in zip(parts, np.split(drawn[: cuts[-1]], cuts[:-1]), strict=True):
            part.append(piece)
    return [np.concatenate(part) for part in parts]


def require_per_class(images: Images, wanted: Mapping[str, int]) -> None:
    """Refuse data with too few training images in a class.

    Parameters
    ----------
    wanted : setting name to images a class, together drawn from the training split

    Raises
    ------
    BadDataset : a class with fewer images than their sum
    """
    counts = torch.bincount(images.train_labels, minlength=len(images.classes))
    fewest, needed = int(counts.min()), sum(wanted.values())
    if fewest >= needed:
        return
    each = fewest // len(wanted)
    smaller = {name: min(count, each) for name, count in wanted.items()}
    raise BadDataset(
        f"class {images.classes[int(counts.argmin())]} of {images.name} has {fewest} training "
        f"images; {needed} are needed.",
        facts=[", ".join(f"{name} is {count}" for name, count in wanted.items()) + "."],
        options=ANOTHER,
        settings=smaller if each else None,
    )


# Digits


@lru_cache(maxsize=1)
def digits() -> Images:
    """Return scikit-learn's 1,797 digits, 8 x 8 grey values from 0 to 16, half of them for testing.

    The halves alternate within each class in the order of the file: fixed, stratified, and without
    random numbers that another version of a library could draw differently.
    """
    from sklearn.datasets import load_digits  # half a second that CIFAR-10 has no use for

    source = load_digits()
    pixels = source.images.astype(np.uint8)[:, None]
    labels = source.target.astype(np.int64)
    order = np.argsort(labels, kind="stable")
    test, train = order[::2], order[1::2]
    arrays = {
        "train": pixels[train],
        "train_labels": labels[train],
        "test": pixels[test],
        "test_labels": labels[test],
    }
    classes = tuple("0123456789")
    found = Decoded(arrays, classes, content_digest(arrays, classes))
    return _images("digits (scikit-learn)", found)


# CIFAR-10 and image folders


@lru_cache(maxsize=2)
def load(data_dir: Path | None = None) -> Images:
    """Return the images of a folder, or CIFAR-10, downloaded where it is not at hand.

    Parameters
    ----------
    data_dir : holds cifar-10-batches-py, cifar-10-python.tar.gz, or {train,test}/CLASS/*

    Raises
    ------
    BadDataset : no such folder, another layout, unreadable images, no network
    """
    path = _downloaded() if data_dir is None else recognise(data_dir)
    try:
        if is_cifar10(path):
            return _images("CIFAR-10", read_cifar10(path))
        return _images(f"image folder {path.resolve().name}", read_image_folder(path))
    except NotKept as error:
        raise BadDataset(
            f"the decoded images cannot be kept in {shown(cache_dir())}.",
            facts=[f"{error}."],
            fix="set BENCH_CACHE to a folder that can be written",
        ) from error
    except OSError as error:
        raise BadDataset(f"{shown(path)} cannot be read: {error}.", options=ANOTHER) from error


def missing(data_dir: Path | None = None) -> str | None:
    """Say within seconds why `load` would fail; None where data are at hand or downloadable."""
    try:
        if data_dir is not None:
            recognise(data_dir)
        elif not _archive().is_file() and not reachable(CIFAR10_URL):
            return f"CIFAR-10 is not in {shown(cache_dir())} and cannot be downloaded"
    except BadDataset as refusal:
        return refusal.what
    return None


def _archive() -> Path:
    return cache_dir() / CIFAR10_ARCHIVE


def _downloaded() -> Path:
    if not _archive().is_file():
        try:
            download(CIFAR10_URL, _archive(), sha256=CIFAR10_SHA256)
        except DownloadFailed as failure:
            failed = f"{failure}" if offline() else f"the download failed: {failure}"
            raise BadDataset(
                f"CIFAR-10 is not in {shown(cache_dir())}, and {failed}.",
                facts=[CIFAR10_NEEDED],
                fix="put the file in a folder, then",
                options=ANOTHER,
            ) from failure
    return _archive()
