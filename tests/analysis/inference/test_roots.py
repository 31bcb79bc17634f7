import math

import pytest
from scipy import optimize

from bench.analysis.inference.roots import crossing


@pytest.mark.parametrize("sign", [1, -1])
def test_a_crossing_is_scipys(sign: int):
    def function(x: float) -> float:
        return sign * (math.cos(x) - x)

    assert crossing(function, 0.0, 2.0) == pytest.approx(
        optimize.brentq(function, 0.0, 2.0, xtol=1e-15), abs=1e-14
    )


def test_a_function_that_keeps_its_sign_is_refused():
    with pytest.raises(ValueError, match="the same sign at 1 and 2"):
        crossing(lambda x: x, 1.0, 2.0)
