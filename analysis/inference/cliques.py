"""Cliques: which groups of arms cannot be told apart from one another?"""

from collections.abc import Callable, Sequence


def tied_groups(
    items: Sequence[int], alike: Callable[[int, int], bool]
) -> tuple[tuple[int, ...], ...]:
    """Return the largest groups of two or more whose members are all alike, pair by pair.

    Parameters
    ----------
    items : in the order in which groups and their members are to be given, best first
    alike : symmetric

    References
    ----------
    Bron & Kerbosch (1973), Communications of the ACM 16(9); as letters: Piepho (2004), JCGS 13(2).
    """
    found: list[tuple[int, ...]] = []

    def grow(group: list[int], candidates: list[int], excluded: list[int]) -> None:
        if not candidates and not excluded:
            found.append(tuple(sorted(group, key=items.index)))
        for item in list(candidates):
            near = [other for other in candidates if other != item and alike(item, other)]
            grow([*group, item], near, [other for other in excluded if alike(item, other)])
            candidates.remove(item)
            excluded.append(item)

    grow([], list(items), [])
    groups = [group for group in found if len(group) > 1]
    return tuple(sorted(groups, key=lambda group: [items.index(item) for item in group]))
