"""Readers: CIFAR-10's files or a folder of images, decoded to arrays once."""

import hashlib
import os
import tarfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bench.analysis.errors import Refusal
from bench.experiments.data import cifar_pickles
from bench.experiments.data.download_cache import Decoded, decoded, shown

CIFAR10_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
CIFAR10_ARCHIVE = "cifar-10-python.tar.gz"
CIFAR10_SHA256 = "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"
CIFAR10_FOLDER = "cifar-10-batches-py"
LARGEST_BATCH = 2**26  # twice the real ones: more is not CIFAR-10, and may fill the memory
CIFAR10_NEEDED = f"Needed: {CIFAR10_ARCHIVE}, 163 MiB, sha256 {CIFAR10_SHA256}."
IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff", ".webp"}
ANOTHER = (("data", "FOLDER"),)

Arrays = dict[str, NDArray[Any]]


class BadDataset(Refusal):
    """Images that are not there, cannot be read, or are too few."""

    code = "dataset"
    exit_status = 4


def recognise(data_dir: Path) -> Path:
    """Return the CIFAR-10 batches, the archive or the image folder that `data_dir` holds.

    Raises
    ------
    BadDataset : none of them
    """
    if not data_dir.is_dir():
        what = "is a file; --data takes the folder it is in" if data_dir.exists() else "not found"
        fix = [("data", str(data_dir.parent))] if data_dir.exists() else ANOTHER
        raise BadDataset(f"data folder {shown(data_dir)} {what}.", options=fix)
    if found := _inside(data_dir):
        return found
    names = sorted(f"{e.name}/" if e.is_dir() else e.name for e in os.scandir(data_dir))
    listed = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
    below = [entry for entry in sorted(data_dir.iterdir()) if entry.is_dir() and _inside(entry)]
    raise BadDataset(
        f"{shown(data_dir)} holds neither CIFAR-10's files nor an image folder.",
        facts=[
            f"Found: {listed or 'nothing'}.",
            f"Known: {CIFAR10_FOLDER}/, {CIFAR10_ARCHIVE}, or train/CLASS/* and test/CLASS/*.",
        ],
        options=[("data", str(below[0]))] if below else ANOTHER,
    )


def _inside(folder: Path) -> Path | None:
    if (folder / "data_batch_1").is_file():
        return folder
    if (folder / CIFAR10_FOLDER).is_dir():
        return folder / CIFAR10_FOLDER
    if (folder / CIFAR10_ARCHIVE).is_file():
        return folder / CIFAR10_ARCHIVE
    return folder if (folder / "train").is_dir() and (folder / "test").is_dir() else None


def is_cifar10(path: Path) -> bool:
    """Say whether `recognise` found CIFAR-10's own files, packed or not; else images."""
    return path.is_file() or path.name == CIFAR10_FOLDER or (path / "data_batch_1").is_file()


def _signature(root: Path, files: Sequence[Path]) -> str:
    """Return a key that changes with the files' names, sizes or times, without reading them."""
    sha = hashlib.sha256(f"1 {root.resolve()}".encode())
    for file in files:
        stat = file.stat()
        # The change time too: unpacking another archive over this one restores the other times.
        times = f"{stat.st_mtime_ns} {stat.st_ctime_ns}"
        sha.update(f"\n{file.relative_to(root)} {stat.st_size} {times}".encode())
    return sha.hexdigest()[:32]


def read_cifar10(path: Path) -> Decoded:
    """Return CIFAR-10 from its folder or its archive: train, train_labels, test, test_labels.

    Raises
    ------
    BadDataset : a file that is missing, damaged, or not CIFAR-10's
    """
    from torchvision.datasets import CIFAR10  # a second that digits has no use for

    train, test = dict(CIFAR10.train_list), dict(CIFAR10.test_list)
    meta = {CIFAR10.meta["filename"]: CIFAR10.meta["md5"]}

    def decode() -> tuple[Arrays, tuple[str, ...]]:
        read = _verified(path, {**train, **test, **meta})
        classes = tuple(read[CIFAR10.meta["filename"]][CIFAR10.meta["key"]])
        arrays: Arrays = {}
        for split, names in (("train", train), ("test", test)):
            pixels = np.concatenate([read[name]["data"] for name in names])
            arrays[split] = pixels.reshape(-1, 3, 32, 32)
            labels = [label for name in names for label in read[name]["labels"]]
            arrays[f"{split}_labels"] = np.array(labels, dtype=np.int64)
        return arrays, classes

    root, files = (path.parent, [path]) if path.is_file() else (path, sorted(path.iterdir()))
    return decoded(_signature(root, files), decode)


def _verified(path: Path, md5_of: Mapping[str, str]) -> dict[str, Any]:
    """Return what CIFAR-10's files hold; only bytes with the published checksum are read."""
    contents = _archived(path, md5_of) if path.is_file() else _unpacked(path, md5_of)
    for name, md5 in md5_of.items():
        if name not in contents or _md5(contents[name]) != md5:
            trouble = "is not CIFAR-10's: its checksum differs" if name in contents else "not found"
            raise _wrong(path, name, md5, trouble)
    read = {}
    for name, md5 in md5_of.items():
        try:
            read[name] = cifar_pickles.read(contents[name])
        except cifar_pickles.NotABatch as error:
            raise _wrong(path, name, md5, f"is not CIFAR-10's: {error}") from error
    return read


def _wrong(path: Path, name: str, md5: str, trouble: str) -> BadDataset:
    return BadDataset(
        f"{name} in {shown(path)} {trouble}.",
        facts=[f"Needed: {name} with md5 {md5}, from {CIFAR10_ARCHIVE}."],
        fix=f"download {CIFAR10_URL} again, then",
        options=ANOTHER,
    )


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _unpacked(folder: Path, names: Mapping[str, str]) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in names if (folder / name).is_file()}


def _archived(archive: Path, names: Mapping[str, str]) -> dict[str, bytes]:
    """Read the files out of the archive; nothing is unpacked to the disk."""
    contents = {}
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                folder, _, name = member.name.rpartition("/")
                wanted = folder == CIFAR10_FOLDER and name in names
                wanted = wanted and member.isreg() and member.size < LARGEST_BATCH  # no links
                if wanted and (file := tar.extractfile(member)):
                    contents[name] = file.read()
    except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
        raise BadDataset(
            f"{shown(archive)} is damaged: {error}.",
            facts=[CIFAR10_NEEDED],
            fix=f"download {CIFAR10_URL} again, then",
            options=ANOTHER,
        ) from error
    return contents


def read_image_folder(root: Path) -> Decoded:
    """Return the images of {train,test}/CLASS/*: train, train_labels, test, test_labels.

    Raises
    ------
    BadDataset : an unreadable image, unequal sizes, or train and test with different classes
    """
    files = {split: _files_by_class(root / split) for split in ("train", "test")}
    classes = tuple(files["train"])
    if set(classes) != set(files["test"]):
        only = {
            split: sorted(set(files[split]) - set(files[other]))
            for split, other in (("train", "test"), ("test", "train"))
        }
        raise BadDataset(
            f"train and test of {shown(root)} have different classes.",
            facts=[f"Only in {split}: {', '.join(n[:6])}." for split, n in only.items() if n],
            fix="give train and test the same folders, then",
            options=[("data", str(root))],
        )
    listed = {split: [f for group in files[split].values() for f in group] for split in files}

    def decode() -> tuple[Arrays, tuple[str, ...]]:
        arrays: Arrays = {}
        size = _pixels(listed["train"][0]).shape
        for split in listed:
            arrays[split] = _decode(listed[split], size)
            counts = [len(files[split][name]) for name in classes]
            arrays[f"{split}_labels"] = np.repeat(np.arange(len(classes)), counts)
        return arrays, classes

    return decoded(_signature(root, listed["train"] + listed["test"]), decode)


def _files_by_class(split: Path) -> dict[str, list[Path]]:
    folders = [e for e in sorted(split.iterdir()) if e.is_dir() and not e.name.startswith(".")]
    files = {folder.name: _image_files(folder) for folder in folders}
    if empty := [name for name, found in files.items() if not found]:
        raise BadDataset(
            f"class folder {shown(split / empty[0])} holds no images.", options=ANOTHER
        )
    if len(files) < 2:
        raise BadDataset(
            f"{shown(split)} holds {len(files)} class folders; two or more are needed.",
            facts=[f"Wanted: {split.name}/CLASS/*.png, or .jpg, one folder a class."],
            options=ANOTHER,
        )
    return files


def _image_files(folder: Path) -> list[Path]:
    return sorted(
        f
        for f in folder.iterdir()
        if f.suffix.lower() in IMAGE_SUFFIXES and not f.name.startswith(".")
    )


def _decode(files: Sequence[Path], size: tuple[int, ...]) -> NDArray[np.uint8]:
    images = np.empty((len(files), *size), dtype=np.uint8)
    for row, file in enumerate(files):
        pixels = _pixels(file)
        if pixels.shape != size:
            raise BadDataset(
                f"{shown(file)} is {pixels.shape[2]} x {pixels.shape[1]} pixels, "
                f"the first image {size[2]} x {size[1]}.",
                facts=["All images need one size; settings such as image_size come later."],
                fix="resize the images to one size",
            )
        images[row] = pixels
    return images


def _pixels(file: Path) -> NDArray[np.uint8]:
    try:
        with Image.open(file) as image:
            return np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise BadDataset(
            f"{shown(file)} is not a readable image: {error}.",
            fix="replace or remove the file, then run the same command again",
        ) from error
