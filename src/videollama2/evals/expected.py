"""Published and reported figures beside ours: "reproduces", or "differs by".

expected.json holds what the paper prints for the released checkpoints, what users got from them, and what papers about
other things measured on them; each with its source, the setting it was made in, and a tolerance. Where the model, the
benchmark, the setting or the figure has no entry, nothing is said.

A tolerance covers what is not in the print: rounding, another number format, another decoder; for figures of a judge,
that judges differ. An interval covers what our items leave open: half a benchmark may neither reproduce nor differ.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import files
from pathlib import PurePath
from typing import Any, Literal

from ..errors import CheckpointNotFound
from ..weights.catalog import find
from .wording import many, number, unit

Says = Literal["reproduces", "differs", "open"]


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A figure that somebody stated.

    Attributes:
        model: short name of a released checkpoint.
        metric: as in a report; of a judge where `judged`.
        value, tolerance: in the metric's own scale, 0.809 for 80.9 %.
        kind: `published` by the authors, `reported` by users of the checkpoint, or by a `third party`.
        setting: of ours that is comparable.
        frames: of a video, where stated.
        note: what else to know.
    """

    model: str
    benchmark: str
    metric: str
    value: float
    tolerance: float
    kind: Literal["published", "reported", "third party"]
    setting: str
    source: str
    frames: int | None = None
    judged: bool = False
    note: str = ""


@cache
def figures() -> tuple[Figure, ...]:
    """All of expected.json."""
    text = files(__package__).joinpath("expected.json").read_text(encoding="utf-8")
    return tuple(Figure(**entry) for entry in json.loads(text)["figures"])


def compared(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What is known for the model, benchmark and setting of a summary, beside its own figures.

    Returns:
        One dictionary for each: the Figure, `judge`, `ours`, `difference` (ours - theirs), `says`, `text` and
        `remarks`.
    """
    full = summary["ablations"].get("none")
    model = released(summary.get("model"))
    if full is None or model is None:
        return []
    found = []
    for figure in figures():
        here = (figure.model, figure.benchmark, figure.setting) == (
            model, _key(summary["benchmark"]), summary.get("setting"),
        )  # fmt: skip
        if here:
            for judge, metrics in _sources(summary, figure):
                if figure.metric in metrics:
                    found.append(_beside(figure, judge, metrics[figure.metric], summary))
    return found


def released(model: Any) -> str | None:
    """The short name of a released checkpoint: of its name, hub id, or a folder called like it; else None."""
    if not isinstance(model, str):
        return None
    for name in (model, PurePath(model).name):
        try:
            return find(name).short_name
        except CheckpointNotFound:
            continue
    return None


def _sources(summary: Mapping[str, Any], figure: Figure) -> list[tuple[str | None, Mapping[str, Any]]]:
    """Where ours is: the run's own figures, or those of each judge."""
    if not figure.judged:
        return [(None, summary["ablations"]["none"]["metrics"])]
    return [(entry["judge"], entry["metrics"]) for entry in summary.get("judges", {}).get("verdicts", ())]


def _beside(figure: Figure, judge: str | None, ours: Mapping[str, Any], summary: Mapping[str, Any]) -> dict[str, Any]:
    apart = ours["value"] - figure.value
    # a rounding error of a float is no difference
    within = abs(apart) <= figure.tolerance + 1e-9
    inside = ours["low"] is not None and ours["low"] <= figure.value <= ours["high"]
    says: Says = "reproduces" if within else "open" if inside else "differs"
    m = figure.metric
    theirs = f"{number(m, figure.value)}{unit(m)} ({figure.kind}: {figure.source})"
    by = f"{number(m, apart, signed=True)}{' points' if unit(m) else ''}"
    text = {
        "reproduces": f"reproduces {theirs}",
        "differs": f"differs by {by} from {theirs}",
        "open": f"is {by} from {theirs}, which so few items can't tell apart",
    }[says]
    return {
        **asdict(figure),
        "judge": judge,
        "ours": ours["value"],
        "difference": apart,
        "says": says,
        "text": text,
        "remarks": _remarks(figure, judge, summary),
    }


def _remarks(figure: Figure, judge: str | None, summary: Mapping[str, Any]) -> list[str]:
    """What makes ours another measurement than theirs."""
    remarks = [figure.note] if figure.note else []
    frames = summary["manifest"].get("run", {}).get("frames")
    if figure.frames is not None and frames is not None and frames != figure.frames:
        remarks.append(f"theirs has {figure.frames} frames, ours {frames}")
    coverage = summary.get("coverage", {})
    asked, available = coverage.get("asked"), coverage.get("available")
    if asked is not None and available is not None and asked < available:
        remarks.append(f"ours is of {asked:,} of {many(available)}")
    failed = summary["ablations"]["none"]["outcomes"]["failed"]
    if failed:
        remarks.append(f"{many(failed)} of ours failed, and stayed counted")
    if judge is not None:
        remarks.append(f"ours is judged by {judge}")
    return remarks


def _key(benchmark: str) -> str:
    return benchmark.lower().replace("_", "-")
