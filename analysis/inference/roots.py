"""Roots: where does a monotone function cross zero?"""

from collections.abc import Callable

STEPS = 200  # of halving: more than any interval of floats has


def crossing(function: Callable[[float], float], low: float, high: float) -> float:
    """Return where a function changes its sign between two points, to the last digits of a float.

    scipy.optimize has faster ways, but takes a quarter of a second to import.

    Parameters
    ----------
    function : continuous, with different signs at `low` and `high`

    Raises
    ------
    ValueError : the same sign at both

    Examples
    --------
    >>> round(crossing(lambda x: x * x - 2, 0.0, 2.0), 12)
    1.414213562373
    """
    rising = function(high) > 0
    if rising == (function(low) > 0):
        raise ValueError(f"the function has the same sign at {low:g} and {high:g}")
    for _ in range(STEPS):
        middle = (low + high) / 2
        if not low < middle < high:
            break
        low, high = (low, middle) if (function(middle) > 0) == rising else (middle, high)
    return (low + high) / 2
