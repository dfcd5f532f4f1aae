"""A song table for others: what searching needs now, without what was taken out before.

Enters: a table's path and some of its members. Leaves: a new file with these members and the songs
that are known, in one consistent state even if another command is changing the table.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from ensemble.index.database import transaction


def copy_table(path: Path, target: Path, members: Sequence[str]) -> None:
    """Write what `read_indexes` reads of the members into a file that is not there yet.

    Songs that were taken out are left out, and so is every change but those that brought songs. The
    same table gives the same bytes. Raises `UserError` if the table cannot be read, `ValueError` if
    it lacks a member.
    """
    with transaction(path) as connection, closing(sqlite3.connect(target)) as copy:
        known = {name for (name,) in connection.execute("SELECT name FROM member")}
        if missing := [name for name in members if name not in known]:
            raise ValueError(f"no member {missing[0]} in {path}")
        connection.backup(copy)
        copy.execute("PRAGMA foreign_keys = ON")
        copy.execute("DELETE FROM song WHERE removed_by IS NOT NULL")
        copy.execute(
            "DELETE FROM change WHERE number NOT IN "
            "(SELECT added_by FROM song WHERE added_by IS NOT NULL)"
        )
        marks = ", ".join("?" * len(members))
        copy.execute(f"DELETE FROM heard WHERE member NOT IN ({marks})", members)
        copy.execute(f"DELETE FROM member WHERE name NOT IN ({marks})", members)
        copy.commit()
        copy.execute("VACUUM")  # what was deleted stands in no page of the file any more
