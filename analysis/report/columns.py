"""How wide a table's columns are, and which cells must be shortened to fit.

Enters: a `Table` and the room it has. Leaves: `Grid`: the size of its letters, widths, and cells as
they are written.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from analysis.report.lettering import POINTS, shortened, width_of
from analysis.report.slide import SMALLEST, Table

PAD = 0.12  # inches, on either side of a cell's text
MOST_SPARE = 0.5  # inches by which a column is widened at most
ROW, LEAST_ROW = 1.8, 1.5  # height of a row, in sizes of the letters
NARROWEST = 0.8  # inches to which a column is cut at most


@dataclass(frozen=True)
class Grid:
    """A table as it is written."""

    size: float  # of its letters, points
    widths: tuple[float, ...]
    rows: tuple[tuple[str, ...], ...]  # the head first
    row: float = ROW  # height of a row, in sizes of the letters

    @property
    def row_height(self) -> float:
        return self.row * self.size / POINTS

    @property
    def height(self) -> float:
        return self.row_height * len(self.rows)


def is_bold(table: Table, row: int) -> bool:
    """Whether a row of `Grid.rows` is in bold: the head, and those that the table names."""
    return row == 0 or row - 1 in table.bold


def grid_of(table: Table, room: float, size: float) -> Grid:
    """The table in letters of `size` or smaller, so that it is at most `room` wide.

    Where the smallest letters are too wide, the widest columns are cut, texts before numbers.
    """
    rows = (table.head, *table.rows)
    columns = range(len(table.head))

    def widths_at(points: float) -> list[float]:
        return [
            max(width_of(row[c], points, is_bold(table, n)) for n, row in enumerate(rows)) + 2 * PAD
            for c in columns
        ]

    widths = widths_at(size)
    while sum(widths) > room and size > SMALLEST:
        size = max(size - 0.5, SMALLEST)
        widths = widths_at(size)
    over = sum(widths) - room
    for group in ([c for c in columns if c not in table.numeric], list(columns)):
        while over > 1e-6 and group:
            widest = max(group, key=lambda c: widths[c])
            less = min(over, 0.1, widths[widest] - NARROWEST)
            if less <= 0:
                break
            widths[widest] -= less
            over -= less
    if over < 0:
        spare = min(-over / len(widths), MOST_SPARE)
        widths = [width + spare for width in widths]
    written = tuple(
        tuple(
            shortened(cell, width - 2 * PAD + 1e-6, size, is_bold(table, n))
            for cell, width in zip(row, widths, strict=True)
        )
        for n, row in enumerate(rows)
    )
    return Grid(size, tuple(widths), written)


def squeezed(grid: Grid, height: float) -> Grid:
    """The table with lower rows, so that it is at most `height` high.

    Where the lowest are too high, the last one says how many are left out.
    """
    if grid.height <= height + 1e-6:
        return grid
    low = replace(grid, row=max(height * POINTS / grid.size / len(grid.rows), LEAST_ROW))
    if low.height <= height + 1e-6:
        return low
    fitting = max(int((height + 1e-6) / low.row_height), 2)
    left_out = f"and {len(grid.rows) - fitting + 1} more"
    rest = ("",) * (len(grid.widths) - 1)
    return replace(low, rows=(*grid.rows[: fitting - 1], (left_out, *rest)))
