"""VGGSound's tables: its test clips with their labels, and the groups of its labels."""

from collections.abc import Mapping
from pathlib import Path

from ..data.annotations import Row, rows
from .sources import Items


def test_clips(path: Path) -> list[Row]:
    """Clip and label of each test clip. The file has two columns, or four with all splits and perhaps a header."""
    if path.name == "test.csv":
        return rows(path, columns=("clip", "label"))
    found = []
    for row in rows(path, columns=("id", "start", "label", "split")):
        if row.problem or row.get("split", "").strip() != "test":
            found += [row] if row.problem else []
        elif str(row.get("start")).strip().isdecimal():
            name = f"{row.get('id')}_{int(row.get('start')):06}"
            found.append(Row({"clip": name, "label": row.get("label")}, row.origin))
        else:
            found.append(Row({}, row.origin, f"start: expected a whole number, got {row.get('start')!r:.60}."))
    return found


def label_groups(items: Items) -> Mapping[str, str]:
    """Label → group, from the table of all classes; empty without it."""
    path = items.optional("data/stat.csv", "stat.csv")
    found = {}
    for row in () if path is None else rows(path, columns=("label", "count", "group")):
        with items.side("labels without a group"):
            if row.text("count").strip().isdigit():
                found[row.text("label").strip()] = row.text("group").strip()
    return found
