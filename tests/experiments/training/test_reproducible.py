import pytest
import torch
from torch import nn

from bench.experiments.training.reproducible import deterministic, initialised_by, word


def test_first_weights_come_from_the_generator_and_not_from_the_global_stream():
    def weights(seed):
        with initialised_by(word(torch.Generator().manual_seed(seed))):
            return nn.Linear(3, 4).weight

    torch.manual_seed(1)
    first = weights(0)
    torch.manual_seed(2)
    assert torch.equal(first, weights(0))
    assert not torch.equal(first, weights(1))


def test_every_word_is_drawn_anew():
    generator = torch.Generator().manual_seed(0)
    assert word(generator) != word(generator)


def test_the_global_stream_goes_on_as_if_nothing_had_been_built():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    with initialised_by(5):
        nn.Linear(3, 4)
    assert torch.equal(torch.rand(3), expected)


def test_only_deterministic_operations_are_allowed_and_the_old_rule_comes_back():
    @deterministic()
    def training():
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.is_deterministic_algorithms_warn_only_enabled()
        assert not torch.utils.deterministic.fill_uninitialized_memory
        raise RuntimeError("stop")

    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with pytest.raises(RuntimeError, match="stop"):
            training()
        assert torch.is_deterministic_algorithms_warn_only_enabled()
        assert torch.utils.deterministic.fill_uninitialized_memory
    finally:
        torch.use_deterministic_algorithms(False)
    with pytest.raises(RuntimeError, match="stop"):
        training()
    assert not torch.are_deterministic_algorithms_enabled()
