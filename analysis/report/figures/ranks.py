"""Ranks: the arms' average ranks over data sets, and who cannot be told apart (F8)."""

from bench.analysis.data.format import count
from bench.analysis.report.figures import style
from bench.analysis.report.figures.axis import short
from bench.analysis.study.findings import Findings


def ranks(f: Findings) -> style.Drawing:
    """Draw each arm at its average rank, best first, with half the critical difference."""
    among = f.among
    if among is None or among.ranks is None:
        raise ValueError("without several data sets and three arms there are no ranks to draw")
    found = among.ranks
    places = sorted(range(len(f.design.arms)), key=lambda i: found.average[i])
    names = [f.design.arms[i] for i in places]
    at = [found.average[i] for i in places]
    with style.axes(height=0.34 * len(names) + 0.9) as ax:
        half = found.critical / 2
        for row, (rank, name) in enumerate(zip(at, names, strict=True)):
            colour = style.BASELINE if name == f.design.baseline else style.TREATMENT
            ax.plot([rank - half, rank + half], [row, row], color=colour, lw=2.4)
            face = style.BACKGROUND if name == f.design.baseline else colour
            ax.plot([rank], [row], "o", ms=5.5, mfc=face, mec=colour, mew=1.5)
        ax.set_yticks(range(len(names)), [short(name) for name in names])
        ax.set_ylim(len(names) - 0.5, -0.5)
        ax.set_xlabel("average rank (1 is best)")
        sets = count(found.n, "data set")
        listed = ", ".join(f"{n} {rank:.2f}" for n, rank in zip(names, at, strict=True))
        return style.finish(
            ax,
            name="f8",
            title="Average ranks over data sets",
            description=f"Over {sets}: {listed}. Critical difference {found.critical:.2f}.",
            caption=(
                f"Average rank over {sets}, with half of Nemenyi’s critical difference "
                f"({found.critical:.2f}) to each side: arms whose bars do not overlap are told "
                "apart, all pairs counted."
            ),
        )
