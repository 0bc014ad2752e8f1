"""The training sets that a recipe names, and what of them is built in a folder: `train PHASE --recipe R --sets SETS`.

R: sets = "sets/paper.toml" ──► [PHASE] NAME = records, or [PHASE.POOL]  ──► SetUse ──► --data POOL=FILE:RECORDS
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data.built import MANIFEST, RECORDS, read_set_manifest
from ..data.sets.registry import training_set
from ..errors import UsageError
from .settings import recipe_tables


@dataclass(frozen=True)
class SetUse:
    """A set of a phase.

    Attributes:
        name: of the set. pool: of the mixture; "": by the kind of its records.
        paper: records that the recipe uses of it; None: all.
        kept, missing: records that are built, and those whose media weren't found; None: not built.
        file: its records.
    """

    name: str
    pool: str
    paper: int | None
    kept: int | None
    missing: int | None
    file: Path

    @property
    def used(self) -> int:
        """Records that the run uses."""
        return 0 if self.kept is None else min(self.kept, self.kept if self.paper is None else self.paper)

    @property
    def data(self) -> str:
        """The set as an argument of --data."""
        pool = f"{self.pool}=" if self.pool else ""
        return f"{pool}{self.file}" + (f":{self.used}" if self.kept is not None and self.used < self.kept else "")


def sets_of_recipe(recipe: Path, phase: str, folder: Path) -> list[SetUse]:
    """The sets that a recipe names for a phase, with what is built of them in the folder.

    Raises:
        UsageError: the recipe names no sets for the phase, or an unknown set, or the folder is missing.
        DataError: a manifest is damaged.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} not found; expected the folder of sets that `videollama2 data build` wrote.")
    named = recipe_tables(recipe).get("sets")
    if not isinstance(named, str):
        raise UsageError(f'{recipe} names no sets; expected a line such as sets = "sets/paper.toml".')
    path = recipe.parent / named
    table = recipe_tables(path).get(phase)
    if not isinstance(table, dict):
        raise UsageError(f"{path} has no table [{phase}].")
    uses = []
    for key, value in table.items():
        pool = key if isinstance(value, dict) else ""
        for name, count in (value if isinstance(value, dict) else {key: value}).items():
            uses.append(_use(path, name, pool, count, folder))
    return uses


def _use(path: Path, name: str, pool: str, count: Any, folder: Path) -> SetUse:
    training_set(name)  # raises if unknown
    if count != "all" and (not isinstance(count, int) or isinstance(count, bool) or count < 1):
        raise UsageError(f'{path}: {name} = {count!r}; expected a number of records, or "all".')
    built = read_set_manifest(folder / name) if (folder / name / MANIFEST).is_file() else None
    kept, missing = (None, None) if built is None else (built["kept"], built["missing_media"])
    return SetUse(name, pool, None if count == "all" else count, kept, missing, folder / name / RECORDS)


def data_of(uses: Sequence[SetUse]) -> tuple[str, ...]:
    """The arguments of --data for the sets that are built and not empty."""
    return tuple(use.data for use in uses if use.used)


def uses_table(uses: Sequence[SetUse]) -> str:
    """What of a recipe's sets is built, as text."""
    head = ("set", "pool", "recipe", "built", "used", "media missing")
    rows = [
        (use.name, use.pool, "all" if use.paper is None else f"{use.paper:,}",
         *(("not built", "", "") if use.kept is None else (f"{use.kept:,}", f"{use.used:,}", f"{use.missing:,}")))
        for use in uses
    ]  # fmt: skip
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    lines = [
        "  ".join(cell.ljust(width) if k < 2 else cell.rjust(width) for k, (cell, width) in
                  enumerate(zip(row, widths, strict=True))).rstrip()
        for row in (head, *rows)
    ]  # fmt: skip
    absent = [use.name for use in uses if use.kept is None]
    lines.append(
        f"{len(uses) - len(absent)} of {len(uses)} sets are built, {sum(use.used for use in uses):,} records used"
    )
    return "\n".join(lines)
