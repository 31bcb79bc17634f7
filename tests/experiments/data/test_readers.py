import hashlib
import io
import pickle
import struct
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import CIFAR10

from bench.experiments.data import cifar_pickles as reader
from bench.experiments.data.datasets import BadDataset, load
from bench.experiments.data.readers import recognise

FOLDER = "cifar-10-batches-py"


class Python2(pickle._Pickler):
    """Writes as CIFAR-10's files were written: texts and bytes are one, numpy is that of 2009."""

    dispatch = dict(pickle._Pickler.dispatch)

    def save_text(self, text):
        content = text.encode("latin1") if isinstance(text, str) else text
        self.write(pickle.BINSTRING + struct.pack("<i", len(content)) + content)
        self.memoize(text)

    dispatch[str] = dispatch[bytes] = save_text


def as_python2(batch):
    stream = io.BytesIO()
    Python2(stream, protocol=2).dump(batch)
    return stream.getvalue().replace(b"cnumpy._core.", b"cnumpy.core.")


def refusal(folder):
    with pytest.raises(BadDataset) as told:
        load(folder)
    return told.value


@pytest.fixture
def batches(monkeypatch):
    """Return CIFAR-10's files with 4 images each, by name; their checksums are the known ones."""
    rng = np.random.default_rng(0)
    names = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
    contents = {}
    for name in names:
        pixels = rng.integers(0, 256, (4, 3072)).astype(np.uint8)
        batch = {"data": pixels, "labels": rng.integers(0, 3, 4).tolist()}
        contents[name] = as_python2(batch)
    contents["batches.meta"] = as_python2({"label_names": ["cat", "dog", "eel"]})
    publish(monkeypatch, contents)
    return contents


def publish(monkeypatch, contents):
    """Let the checksums of these files be the known ones."""
    md5 = {name: hashlib.md5(content).hexdigest() for name, content in contents.items()}
    train = [[name, md5[name]] for name in contents if name.startswith("data_batch_")]
    monkeypatch.setattr(CIFAR10, "train_list", train)
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", md5["test_batch"]]])
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": md5["batches.meta"]})


def unpack(folder, contents):
    folder.mkdir(parents=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)


def pack(archive, contents):
    archive.parent.mkdir(parents=True)
    with tarfile.open(archive, "w:gz") as tar:
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def test_cifar10_files_load_from_their_folder_from_above_it_and_packed(batches, tmp_path):
    unpack(tmp_path / "a" / FOLDER, batches)
    archive = tmp_path / "b" / "cifar-10-python.tar.gz"
    pack(archive, {f"{FOLDER}/{k}": v for k, v in batches.items()})
    inside, above, packed = (
        load(tmp_path / "a" / FOLDER),
        load(tmp_path / "a"),
        load(archive.parent),
    )
    assert inside.digest == above.digest == packed.digest
    assert packed.name == "CIFAR-10" and packed.classes == ("cat", "dog", "eel")
    assert packed.train.shape == (20, 3, 32, 32) and packed.test.shape == (4, 3, 32, 32)
    third = pickle.loads(batches["data_batch_3"], encoding="latin1")
    assert packed.train_labels[8:12].tolist() == third["labels"]
    assert packed.train[8].flatten().tolist() == third["data"][0].tolist()
    assert [p.name for p in archive.parent.iterdir()] == [archive.name]  # nothing is unpacked


def test_the_decoded_copy_is_read_without_unpickling_again(batches, tmp_path, monkeypatch, forget):
    unpack(tmp_path / FOLDER, batches)
    first = load(tmp_path)
    forget()
    monkeypatch.setattr(reader, "read", lambda content: pytest.fail("read again"))
    assert torch.equal(load(tmp_path).train, first.train)


def test_a_changed_batch_is_never_unpickled(batches, tmp_path, touches):
    harmful, happened = touches
    unpack(tmp_path / FOLDER, {**batches, "data_batch_2": pickle.dumps(harmful)})
    told = refusal(tmp_path)
    assert "data_batch_2" in told.what and "its checksum differs" in told.what
    assert "with md5 " in told.facts[0]
    assert not happened()


def test_a_changed_batch_in_an_archive_is_never_unpickled(batches, tmp_path, touches):
    harmful, happened = touches
    contents = {**batches, "test_batch": pickle.dumps(harmful)}
    members = {f"{FOLDER}/{k}": v for k, v in contents.items()}
    pack(tmp_path / "x" / "cifar-10-python.tar.gz", {**members, "../outside": b"escaped"})
    assert "test_batch" in refusal(tmp_path / "x").what
    assert not happened() and not (tmp_path / "outside").exists()


@pytest.mark.parametrize("protocol", [0, 1, 2, 4, 5])
def test_even_with_its_checksum_published_a_harmful_batch_does_nothing(
    protocol, batches, tmp_path, touches, monkeypatch
):
    harmful, happened = touches
    evil = {**batches, "data_batch_2": pickle.dumps({"data": harmful}, protocol=protocol)}
    publish(monkeypatch, evil)
    unpack(tmp_path / FOLDER, evil)
    told = refusal(tmp_path)
    assert "data_batch_2" in told.what and "it asks for " in told.what
    assert not happened()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"cbuiltins\neval\n.", "builtins.eval"),
        (b"cnumpy\nload\n.", "numpy.load"),
        (b"cnumpy.core.multiarray\nfromfile\n.", "numpy.core.multiarray.fromfile"),
        (b"\x80\x04\x8c\x05numpy\x8c\x0cndarray.load\x93.", "numpy.ndarray.load"),
        (pickle.dumps({"data": np.array([{}])}, protocol=3), "an array of O8"),
        (pickle.dumps({"data": np.zeros(3)}, protocol=3), "an array of f8"),
        (pickle.dumps([1, 2]), "no attribute 'items'"),
        (b"Pnobody\n.", "persistent"),
        (b"cnumpy\nndarray\n(dVarray\nVx\nsb.", "__setstate__"),  # an edit of what stands in
        (b"", "Ran out of input"),
    ],
)
def test_what_cifar10s_files_do_not_need_is_refused_by_name(content, said):
    with pytest.raises(reader.NotABatch, match=said):
        reader.read(content)


@pytest.mark.parametrize("order", ["C", "F"])
def test_the_arrays_of_old_and_new_numpy_are_read_as_they_are(order):
    pixels = np.asarray(np.arange(24, dtype=np.uint8).reshape(4, 6), order=order)
    for content in (as_python2({"data": pixels}), pickle.dumps({"data": pixels}, protocol=3)):
        read = reader.read(content)["data"]
        assert read.dtype == np.uint8 and read.tolist() == pixels.tolist()


def test_a_missing_batch_is_named(batches, tmp_path):
    del batches["data_batch_4"]
    unpack(tmp_path / FOLDER, batches)
    assert "data_batch_4 in " in refusal(tmp_path).what


def test_a_cut_archive_is_damaged(batches, tmp_path):
    archive = tmp_path / "x" / "cifar-10-python.tar.gz"
    pack(archive, {f"{FOLDER}/{k}": v for k, v in batches.items()})
    archive.write_bytes(archive.read_bytes()[:20000])
    assert "cifar-10-python.tar.gz is damaged" in refusal(archive.parent).what


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    told = refusal(tmp_path / "nowhere")
    assert told.what.endswith("/nowhere not found.")
    assert told.options == (("data", "FOLDER"),)


def test_a_file_in_place_of_a_folder_is_refused_with_its_folder(tmp_path):
    (tmp_path / "images.zip").write_bytes(b"")
    assert refusal(tmp_path / "images.zip").options == (("data", str(tmp_path)),)


def test_another_layout_is_refused_with_what_was_found(tmp_path):
    for name in ("cat", "dog", "val"):
        (tmp_path / "x" / name).mkdir(parents=True)
    (tmp_path / "x" / "readme.txt").write_text("")
    told = refusal(tmp_path / "x")
    assert "holds neither CIFAR-10's files nor an image folder" in told.what
    assert told.facts[0] == "Found: cat/, dog/, readme.txt, val/."


def test_a_folder_one_level_too_high_is_refused_with_the_right_one(image_folder):
    assert refusal(image_folder.parent).options == (("data", str(image_folder)),)
    assert recognise(image_folder) == image_folder


def test_train_and_test_with_different_classes_are_refused(image_folder):
    (image_folder / "test" / "eel").rename(image_folder / "test" / "fox")
    told = refusal(image_folder)
    assert "have different classes" in told.what
    assert told.facts == ("Only in train: eel.", "Only in test: fox.")


def test_a_class_without_images_is_refused(image_folder):
    for image in (image_folder / "train" / "dog").iterdir():
        image.rename(image.with_suffix(".txt"))
    assert "train/dog holds no images" in refusal(image_folder).what


def test_fewer_than_two_classes_are_refused(tmp_path):
    for split in ("train", "test"):
        (tmp_path / "x" / split).mkdir(parents=True)
    assert "holds 0 class folders; two or more are needed" in refusal(tmp_path / "x").what


def test_an_unreadable_image_is_named(image_folder):
    image = image_folder / "test" / "cat" / "0001.png"
    image.write_bytes(image.read_bytes()[:60])
    told = refusal(image_folder)
    assert f"{image} is not a readable image" in told.what
    image.write_bytes(b"no image")
    assert f"{image} is not a readable image" in refusal(image_folder).what


def test_images_of_different_sizes_are_refused(image_folder):
    Image.new("RGB", (20, 16)).save(image_folder / "train" / "eel" / "0003.png")
    assert "0003.png is 20 x 16 pixels, the first image 16 x 16" in refusal(image_folder).what


def test_grey_images_and_other_files_are_no_obstacle(tmp_path, write_images):
    folder = write_images(tmp_path / "x", {"train": 3, "test": 2}, suffix="jpg")
    Image.new("L", (16, 16), 77).save(folder / "test" / "cat" / "0000.JPEG")
    (folder / "test" / "cat" / ".DS_Store").write_bytes(b"")
    (folder / "test" / "cat" / "list.txt").write_text("")
    images = load(folder)
    assert images.test.shape == (7, 3, 16, 16)
    assert images.test[0].unique().tolist() == [77]


def test_a_new_image_is_noticed(image_folder, forget):
    before = load(image_folder)
    Image.new("RGB", (16, 16)).save(image_folder / "train" / "cat" / "new.png")
    forget()
    after = load(image_folder)
    assert len(after.train) == len(before.train) + 1 and after.digest != before.digest
