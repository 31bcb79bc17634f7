import numpy as np
import pytest
import torch
from torch import nn

from bench import Trial
from bench.experiments.data.augment import RandomCrops, Subset, batches, digest
from bench.experiments.data.datasets import load

SETTINGS = {
    "train_per_class": 5, "validation_per_class": 4, "batch_size": 6, "crop_padding": 0.125,
    "flip": True,
}  # fmt: skip


@pytest.fixture
def images(image_folder):
    return load(image_folder)


def test_no_padding_and_no_flip_leave_the_images_as_they_are(images):
    crops = RandomCrops(images.train, {"crop_padding": 0.0, "flip": False})
    crops.draw(np.random.default_rng(0))
    batch = torch.tensor([3, 0, 35])
    assert torch.equal(crops[batch], images.train[batch])


def test_every_crop_is_a_piece_of_the_padded_image_half_of_them_flipped(images):
    crops = RandomCrops(images.train, {"crop_padding": 0.125, "flip": True})
    crops.draw(np.random.default_rng(0))
    cropped = crops[torch.arange(36)]
    assert cropped.shape == images.train.shape
    flips = 0
    for image, crop in zip(images.train, cropped, strict=True):
        padded = nn.functional.pad(image, (2, 2, 2, 2))
        pieces = padded.unfold(1, 16, 1).unfold(2, 16, 1)  # every place of a window
        same = (pieces == crop[:, None, None]).all(dim=(0, 3, 4))
        mirrored = (pieces == crop.flip(2)[:, None, None]).all(dim=(0, 3, 4))
        assert int(same.sum() + mirrored.sum()) == 1
        flips += int(mirrored.sum())
    assert 9 <= flips <= 27


def test_images_of_any_shape_are_cropped():
    pixels = torch.arange(2 * 3 * 8 * 12, dtype=torch.uint8).reshape(2, 3, 8, 12)
    crops = RandomCrops(pixels, {"crop_padding": 0.125, "flip": True})
    crops.draw(np.random.default_rng(0))
    assert crops[torch.tensor([1])].shape == (1, 3, 8, 12)


def test_a_single_left_over_image_joins_the_batch_before_it():
    assert [len(b) for b in batches(torch.arange(1000), 256)] == [256, 256, 256, 232]
    assert [len(b) for b in batches(torch.arange(13), 6)] == [6, 7]
    assert torch.cat(batches(torch.arange(13), 6)).tolist() == list(range(13))
    assert [len(b) for b in batches(torch.arange(5), 8)] == [5]


def test_an_epoch_shows_every_image_once_with_its_label(images):
    plain = {**SETTINGS, "crop_padding": 0.0, "flip": False}
    subset = Subset(Trial(0, "a", plain), images)
    steps = subset.draw()
    pixels, labels = zip(*(subset.batch(step) for step in range(steps)), strict=True)
    assert [len(b) for b in labels] == [6, 6, 3]
    seen = {
        (p.numpy().tobytes(), int(y))
        for p, y in zip(torch.cat(pixels), torch.cat(labels), strict=True)
    }
    wanted = {(images.train[i].numpy().tobytes(), int(images.train_labels[i])) for i in subset.rows}
    assert seen == wanted and len(seen) == 15
    assert not set(subset.rows) & set(subset.held_out)


def test_equal_names_are_equal_batches_and_only_they(images):
    def names(seed, **changes):
        subset = Subset(Trial(seed, "a", {**SETTINGS, **changes}), images)
        found = []
        for _ in range(2):
            steps = subset.draw()
            pixels = torch.cat([subset.batch(step)[0] for step in range(steps)])
            found.append((subset.name, digest(pixels.numpy())))
        return found

    first, again, other = names(0), names(0), names(1)
    assert first == again
    assert len({name for name, _ in [*first, *other]}) == 4
    assert len({pixels for _, pixels in [*first, *other]}) == 4
    assert names(0, train_per_class=6)[0][0] != first[0][0]
