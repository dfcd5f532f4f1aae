"""What stands on the pages of made-up runs: nothing overlaps, nothing is cut, all is legible."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from analysis.report.deck import Author, slides_of
from analysis.report.facts import read_facts
from analysis.report.layout import PlacedTable, place
from analysis.report.slide import Slide
from analysis.run_data import RunData

LONG = "The Incredible Singing Ensemble of the Upper Valley and its Friends No. {:03d}"
SINGERS = {
    "two": ("Al", "Bo"),
    "long": tuple(LONG.format(number) for number in range(20)),
    "unbroken": tuple(f"{'x' * 90}{number}$_{{a}}$" for number in range(5)),
    "hundred": tuple(f"singer {number} {'of the valley ' * (number % 3)}" for number in range(100)),
}
AUTHOR = Author("Wolfeschlegelsteinhausenbergerdorff " * 3, "R" * 60)


@pytest.mark.usefixtures("cheap")
@pytest.mark.parametrize(("singers", "fused"), [(name, name != "two") for name in SINGERS])
def test_nothing_overlaps_or_leaves_the_page(
    singers: str,
    fused: bool,
    build_material: Callable[..., RunData],
    collisions: Callable[[Slide], list[str]],
) -> None:
    run_data = build_material(
        SINGERS[singers], fused, tests=fused, measured=fused, experts=12 if fused else 1
    )
    facts = read_facts(run_data.run, run_data.members, run_data.fusion)
    slides = slides_of(run_data, facts, AUTHOR)
    assert not {slide.title: wrong for slide in slides if (wrong := collisions(slide))}
    for number, slide in enumerate(slides, 1):
        for one in place(slide, number):
            if isinstance(one, PlacedTable):
                assert len(one.grid.rows) == len(one.table.rows) + 1
