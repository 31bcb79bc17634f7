import math
import re

import pytest
from hypothesis import given, strategies as st

from bench.analysis.data import format as form

UNITS = st.sampled_from(["fraction", "nats", "score"])
NUMBERS = st.floats(-50, 50, allow_nan=False)
LIMIT = r"(?:[+\u2212]?\d+\.\d+|\u2212\u221e|\+\u221e)"


def read(text):
    """Return the printed number as a float."""
    return float(text.replace("\u2212", "-").replace("%", "").replace("∞", "inf"))


def printed_limits(text):
    found = re.fullmatch(rf"\[({LIMIT}), ({LIMIT})\]", text)
    assert found, text
    return found[1], found[2]


@given(NUMBERS, UNITS)
def test_a_difference_shows_its_sign_and_never_a_hyphen(x, unit):
    text = form.number(x, unit)
    assert "-" not in text
    sign = {1.0: "+", -1.0: "\u2212", 0.0: ""}[math.copysign(1, x) if read(text) else 0.0]
    assert text.startswith(sign) and text[len(sign)].isdigit()


@given(NUMBERS, UNITS)
def test_a_printed_number_is_the_rounded_one(x, unit):
    digits = form.decimals(unit)
    assert abs(read(form.number(x, unit)) - x * form.scale(unit)) <= 0.5001 * 10.0**-digits
    assert abs(read(form.value(x, unit)) - x * form.scale(unit)) <= 0.5001 * 10.0**-digits


@given(st.floats(-1, 1), UNITS)
def test_a_difference_is_never_in_per_cent(x, unit):
    assert "%" not in form.difference(x, unit)
    assert form.difference(x, unit).endswith(" pp") == (unit == "fraction")


@given(NUMBERS, NUMBERS, st.floats(0.0001, 1), UNITS)
def test_a_printed_limit_meets_zero_or_margin_only_where_the_limit_does(a, b, margin, unit):
    low, high = sorted((a, b))
    guards = (0.0, margin, -margin)
    texts = printed_limits(form.interval(low, high, unit, guards=guards))
    for limit, text in zip((low, high), texts, strict=True):
        for guard in guards:
            apart = limit * form.scale(unit) - guard * form.scale(unit)
            if abs(apart) > 2e-9:  # nearer is equal up to rounding
                assert (read(text) - guard * form.scale(unit)) * apart > -1e-9
                assert f"{abs(read(text)):.9f}" != f"{abs(guard * form.scale(unit)):.9f}" or (
                    limit * guard < 0
                )


@given(st.floats(1e-10, 0.00004))
def test_both_limits_get_the_same_further_digits(tiny):
    low, high = printed_limits(form.interval(tiny, 0.5, "fraction"))
    assert len(low.split(".")[1]) == len(high.split(".")[1]) > 2


@pytest.mark.parametrize(
    ("low", "high", "margin", "text"),
    [
        (0.00097, 0.00522, 0.001, "[+0.097, +0.522]"),
        (0.0012, 0.005, 0.001, "[+0.12, +0.50]"),
        (-0.0000001, 0.02, None, "[\u22120.00001, +2.00000]"),
        (0.001, 0.005, 0.001, "[+0.10, +0.50]"),  # a limit that is the margin may print as it
        (-0.00099, 0.005, 0.001, "[\u22120.099, +0.500]"),
        (None, 0.005, None, "[\u2212∞, +0.50]"),
        (None, None, None, "[\u2212∞, +∞]"),
    ],
)
def test_intervals_are_printed_as_the_design_says(low, high, margin, text):
    guards = (0.0,) if margin is None else (0.0, margin, -margin)
    assert form.interval(low, high, "fraction", guards=guards) == text


def test_a_limit_that_differs_from_a_guard_by_rounding_gets_no_digits():
    assert form.interval(1e-17, 0.1, "fraction") == "[0.00, +10.00]"


@given(st.floats(0, 1))
def test_a_p_value_is_never_zero_nor_one(p):
    text = form.p_value(p)
    assert text not in ("0.000", "1.000")
    assert re.fullmatch(r"< 0\.001|> 0\.999|0\.\d{3}", text)
    if text[0] not in "<>":
        assert abs(float(text) - p) <= 0.000501
    else:
        assert p < 0.001 or p > 0.999


@given(st.floats(0, 1))
def test_a_p_value_gets_one_sign_of_comparison(p):
    assert re.fullmatch(r"p [<>=] 0\.\d{3}", form.p_equation(p))


@given(st.floats(0, 1))
def test_a_share_of_nearly_all_is_not_all(x):
    text = form.share(x)
    assert text.endswith("%") and text not in ("0%", "0.0%", "100%", "100.0%")


@pytest.mark.parametrize("bad", [None, math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("unit", ["fraction", "nats", "score"])
def test_nothing_prints_what_is_not_a_number(bad, unit):
    texts = [
        form.value(bad, unit),
        form.number(bad, unit),
        form.difference(bad, unit),
        form.spread(bad, unit),
        form.p_value(bad),
        form.p_equation(bad),
        form.plain_interval(bad, 0.5, unit),
        form.interval(bad, bad, unit),
    ]
    assert not any("nan" in text.lower() or "inf" in text.lower() for text in texts)


@given(st.floats(1e-7, 10), UNITS)
def test_a_margin_is_printed_with_the_digits_it_needs(x, unit):
    rounded = float(f"{x:.4g}")
    assert float(form.magnitude(rounded, unit)) == pytest.approx(
        rounded * form.scale(unit), rel=1e-6, abs=1e-9
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.54, "0.5 s"), (41, "41 s"), (129, "2m 09s"), (4680, "1h 18m"), (99.6, "1m 40s")],
)
def test_time_spans_read_as_people_say_them(seconds, text):
    assert form.duration(seconds) == text


@pytest.mark.parametrize(
    ("level", "text"), [(0.95, "95%"), (0.975, "97.5%"), (1 - 0.05 / 3, "98.33%")]
)
def test_a_level_is_printed_in_per_cent(level, text):
    assert form.level(level) == text


def test_one_of_a_thing_is_no_plural():
    assert [form.count(n, "seed") for n in (0, 1, 2, 1200)] == [
        "0 seeds",
        "1 seed",
        "2 seeds",
        "1,200 seeds",
    ]
