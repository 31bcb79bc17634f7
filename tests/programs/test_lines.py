"""Numbers in printed lines: read whole, or refused; never a part of one."""

import math

import pytest

from bench.programs.lines import Printed, Reader
from bench.programs.refusals import NoResults


@pytest.mark.parametrize(
    ("pattern", "line", "value"),
    [
        (r"loss ([\d.]+)", "loss 9.5e-05", 9.5e-05),
        (r"loss ([\d.]+)", "loss 2E+3, next", 2000.0),
        (r"return.*?([\d.]+)", "return: -12.5", -12.5),
        (r"return.*?([\d.]+)", "return=\N{MINUS SIGN}12.5", -12.5),
        (r"run-([\d.]+)", "run-3", 3.0),
        (r"loss=([\d.]+)|loss: ([\d.]+)", "loss: 0.93", 0.93),
        (r"is ([\d.]+)", "The accuracy is 0.93.", 0.93),
        (r"loss ([\d.]+)", "loss 0.91,0.92", 0.91),
        (r"(\d+)\.\d+", "12.75", 12.0),
    ],
)
def test_a_number_is_read_with_its_sign_and_its_exponent(pattern, line, value):
    assert Reader.of("score", pattern).read(line) == (None, value)


@pytest.mark.parametrize("word", ["nan", "NaN", "inf", "-inf", "Infinity"])
def test_a_score_that_is_no_longer_a_number_is_not_the_epoch_before(word):
    printed = Printed({"loss": Reader.of("loss", r"(?P<epoch>\d+) loss ([\d.]+)")})
    assert printed.add("epoch 0 loss 0.5, gain nan") == {0: {"loss": 0.5}}
    assert [*printed.add(f"epoch 1 loss {word}")] == [1]
    assert not math.isfinite(printed.scores["loss"])


@pytest.mark.parametrize(
    ("pattern", "line", "told"),
    [
        (r"acc (\d+)", "acc 93.4", "read as '93', and '.4' goes on"),
        (r"acc ([\d.]+)", "acc 0,93", "read as '0', and ',93' goes on"),
        (r"acc ([\d.]+)", "acc 1,234.5", "read as '1', and ',234.5' goes on"),
        (r"(train|val) acc ([\d.]+)", "val acc 0.9", "read as 'val', which is no number"),
        (r"(?P<epoch>\w+) acc ([\d.]+)", "one acc 0.9", "read as 'one', as its epoch"),
    ],
)
def test_a_part_of_a_number_is_refused(pattern, line, told):
    with pytest.raises(NoResults) as refused:
        Reader.of("acc", pattern).read(line)
    assert told in refused.value.what
    assert "match the number alone and all of it" in str(refused.value.fix)


def test_a_whole_epoch_may_be_printed_with_a_point_and_half_an_epoch_is_none():
    reader = Reader.of("acc", r"epoch (?P<epoch>[\d.]+) acc ([\d.]+)")
    assert reader.read("epoch 2.0 acc 0.5") == (2, 0.5)
    assert reader.read("epoch 2.5 acc 0.5") == (None, 0.5)


def test_colours_are_no_part_of_a_line():
    printed = Printed({"acc": Reader.of("acc", r"acc: ([\d.]+)")})
    printed.add("\x1b[1macc: \x1b[32m0.93\x1b[0m")
    assert printed.scores == {"acc": 0.93}
    assert printed.last == ["acc: 0.93"]
