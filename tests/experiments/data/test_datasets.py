import dataclasses

import numpy as np
import pytest
import torch

from bench.experiments.data import datasets
from bench.experiments.data.datasets import BadDataset, digits, load, require_per_class, stratified


@pytest.fixture
def labels():
    return torch.tensor([0, 1, 2] * 40 + [2] * 20)


def test_subsets_are_disjoint_and_hold_every_class_equally(labels):
    train, validation = stratified(labels, (20, 15), np.random.default_rng(0))
    assert not set(train) & set(validation)
    assert len(set(train)) == 60 and len(set(validation)) == 45
    assert torch.bincount(labels[train]).tolist() == [20] * 3
    assert torch.bincount(labels[validation]).tolist() == [15] * 3


def test_the_same_seed_draws_the_same_subsets_and_another_seed_others(labels):
    def drawn(seed):
        return np.concatenate(stratified(labels, (20, 15), np.random.default_rng(seed))).tolist()

    assert drawn(1) == drawn(1) != drawn(2)


def test_every_example_is_drawn_equally_often(labels):
    rng = np.random.default_rng(0)
    counts = sum(np.bincount(stratified(labels, (10,), rng)[0], minlength=140) for _ in range(2000))
    expected = np.where(labels == 2, 10 / 60, 10 / 40)
    assert counts / 2000 == pytest.approx(expected, abs=0.045)  # 4 standard errors


def test_refuses_a_subset_larger_than_its_class(labels):
    with pytest.raises(BadDataset, match="class 0 has 40 images; 41 are needed"):
        stratified(labels, (40, 1), np.random.default_rng(0))


def test_too_few_images_a_class_are_refused_with_settings_that_fit(image_folder):
    images = load(image_folder)
    require_per_class(images, {"train_per_class": 8, "validation_per_class": 4})
    with pytest.raises(BadDataset) as told:
        require_per_class(images, {"train_per_class": 100, "validation_per_class": 4})
    assert told.value.render() == (
        "error[dataset]: class cat of image folder animals has 12 training images; 104 are needed."
        "\n  train_per_class is 100, validation_per_class is 4."
        '\n  fix: data="FOLDER", settings={"train_per_class": 6, "validation_per_class": 4}'
    )


def test_half_of_the_digits_are_for_testing_whatever_the_seed():
    images = digits()
    assert images.facts() == {
        "name": "digits (scikit-learn)", "digest": images.digest,
        "train_pool": 898, "test": 899, "classes": 10, "train_test_overlap": 0,
    }  # fmt: skip
    both = torch.cat([images.train, images.test]).flatten(1)
    assert both.shape == (1797, 64) and both.max() == 16
    shares = torch.bincount(images.test_labels) - torch.bincount(images.train_labels)
    assert shares.abs().max() <= 1


def test_the_digits_are_the_ones_that_results_were_made_with():
    assert digits().digest == "1bb41b981e4a2bec4febc4c23bfd6e8c9fc096957073aabda24a917bf7a50cfc"


def test_an_image_folder_becomes_tensors_with_classes_in_the_order_of_their_names(image_folder):
    images = load(image_folder)
    assert images.name == "image folder animals"
    assert images.classes == ("cat", "dog", "eel")
    assert images.train.shape == (36, 3, 16, 16) and images.train.dtype == torch.uint8
    assert images.train_labels.tolist() == [0] * 12 + [1] * 12 + [2] * 12
    assert images.test.shape == (12, 3, 16, 16)
    means = images.train.float().mean(dim=(2, 3))
    assert torch.equal(means.argmax(dim=1), images.train_labels)  # channel k is the bright one


def test_a_second_process_reads_the_decoded_copy(image_folder, monkeypatch, forget):
    first = load(image_folder)
    forget()
    monkeypatch.setattr(
        "bench.experiments.data.readers._pixels", lambda file: pytest.fail("decoded again")
    )
    again = load(image_folder)
    assert again.digest == first.digest
    assert torch.equal(again.train, first.train) and torch.equal(again.test, first.test)


def test_the_digest_is_of_the_pixels_and_not_of_times_or_places(tmp_path, forget, write_images):
    here = load(write_images(tmp_path / "here", {"train": 3, "test": 2}))
    there = load(write_images(tmp_path / "there", {"train": 3, "test": 2}, suffix="bmp"))
    assert here.digest == there.digest
    image = next((tmp_path / "there" / "test" / "eel").iterdir())
    image.write_bytes(image.read_bytes()[:-1] + b"!")
    forget()
    assert load(tmp_path / "there").digest != here.digest


def test_offline_without_data_is_refused_with_the_file_that_is_needed():
    with pytest.raises(BadDataset) as told:
        load(None)
    lines = told.value.render().splitlines()
    assert lines[0].endswith("/cache, and downloads are switched off (--offline).")
    assert "cifar-10-python.tar.gz, 163 MiB, sha256 6d958be074577803d12ecdefd02955f" in lines[1]
    assert lines[2] == '  fix: put the file in a folder, then data="FOLDER"'
    assert (told.value.code, told.value.exit_status) == ("dataset", 4)


def test_without_network_the_failed_download_is_refused(monkeypatch):
    monkeypatch.delenv("BENCH_OFFLINE")
    monkeypatch.setattr(datasets, "CIFAR10_URL", "http://127.0.0.1:9/cifar-10-python.tar.gz")
    with pytest.raises(BadDataset, match="and the download failed: no network"):
        load(None)


def test_an_unwritable_cache_is_refused_with_another_place(image_folder, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "file"))
    with pytest.raises(BadDataset, match="cannot be kept in .*/file") as told:
        load(image_folder)
    assert told.value.fix == "set BENCH_CACHE to a folder that can be written"


def test_missing_says_what_is_missing_and_nothing_where_data_are_there(image_folder, tmp_path):
    assert datasets.missing(image_folder) is None
    assert "not found" in datasets.missing(tmp_path / "nowhere")
    assert "CIFAR-10 is not in" in datasets.missing(None)
    datasets._archive().parent.mkdir(parents=True)
    datasets._archive().write_bytes(b"")
    assert datasets.missing(None) is None


@pytest.mark.real_data
def test_the_real_images_load_with_ten_classes(real_images):
    images = load(real_images)
    assert images.train.shape == (1100, 3, 32, 32) and images.test.shape == (500, 3, 32, 32)
    assert images.classes[0] == "airplane" and images.classes[-1] == "truck"
    assert 100 < images.train.float().mean() < 140


def test_counts_the_test_images_that_are_training_images_too():
    images = digits()
    assert images.overlap() == 0
    leaked = dataclasses.replace(images, train=torch.cat([images.train, images.test[:3]]))
    assert leaked.overlap() == 3
