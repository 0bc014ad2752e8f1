"""Two runs of one benchmark, item by item: the second's differences, with intervals, and what limits the comparison.

Only items that are the same in both are compared: same id, same truth, same options. Runs of different benchmarks are
rejected. Everything else in which they differ (model, setting, prompts, frames…) is listed, since one difference is the
point of a comparison and two are a trap.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import UsageError
from ..benchmark import Benchmark
from ..items import Outcome, Result, columns_of_categories
from ..journal import read_results
from ..manifest import read_manifest
from .summary import columns_of, paired

_CAUTIONS = {
    "setting": "replies were read by different rules (--setting)",
    "prompts_sha256": "the questions were worded differently",
    "protocol": "media were prepared differently",
    "frames": "different numbers of frames were used",
    "limit": "different parts of the benchmark were asked",
}


@dataclass(frozen=True, kw_only=True)
class ComparedRun:
    """One of two runs."""

    name: str
    manifest: Mapping[str, Any]
    results: Sequence[Result]

    @classmethod
    def read(cls, folder: Path) -> "ComparedRun":
        """The run in a folder.

        Raises:
            DataError, UsageError: the folder holds no run.
        """
        return cls(name=str(folder), manifest=read_manifest(folder), results=read_results(folder))


def compare(first: ComparedRun, second: ComparedRun, benchmark: Benchmark) -> dict[str, Any]:
    """Differences of the second run to the first, as plain data.

    Returns:
        `settings`: what differs between the manifests; `cautions`: those that make figures incomparable; `columns`:
        for each column that both have: items left out and why, `paired` (summary.paired), `categories`, `outcomes`
        (how many items moved from which outcome to which), `changed` (ids).

    Raises:
        UsageError: different benchmarks, no shared column, or no item that is the same in both.
    """
    names = [side.manifest["run"].get("benchmark") for side in (first, second)]
    if names[0] != names[1]:
        raise UsageError(
            f"expected two runs of one benchmark, got {names[0]} in {first.name} and {names[1]} in {second.name}."
        )
    columns_a, columns_b = columns_of(first.results), columns_of(second.results)
    shared = [name for name in columns_a if name in columns_b]
    if not shared:
        raise UsageError(
            f"the runs share no column: {', '.join(columns_a) or 'nothing'} and {', '.join(columns_b) or 'nothing'}; "
            "run one of them with the other's --ablate."
        )
    columns = {name: _column(benchmark, columns_a[name], columns_b[name]) for name in shared}
    if not any(column["items"] for column in columns.values()):
        raise UsageError(
            f"no item is the same in {first.name} and {second.name}: {left_out(columns[shared[0]])}; check that both "
            "read the same annotation files."
        )
    one, two = first.manifest["run"], second.manifest["run"]
    settings = {
        key: [one.get(key), two.get(key)] for key in dict.fromkeys([*one, *two]) if one.get(key) != two.get(key)
    }
    cautions = [
        f"{words}: {settings[key][0]} and {settings[key][1]}" for key, words in _CAUTIONS.items() if key in settings
    ]
    if first.manifest["environment"] != second.manifest["environment"]:
        cautions.append("the runs were made on different machines, or with different versions")
    return {
        "benchmark": benchmark.name,
        "title": benchmark.title,
        "metric": benchmark.metric,
        "runs": [first.name, second.name],
        "models": [one.get("model"), two.get("model")],
        "settings": settings,
        "cautions": cautions,
        "columns": columns,
    }


def _column(benchmark: Benchmark, first: Sequence[Result], second: Sequence[Result]) -> dict[str, Any]:
    other = {result.id: result for result in second}
    both = [(result, other[result.id]) for result in first if result.id in other]
    same = [(a, b) for a, b in both if (a.truth, a.choices) == (b.truth, b.choices)]
    pairs = [(a, b) for a, b in same if a.truth]
    one, two = [a for a, _ in pairs], [b for _, b in pairs]
    moves = Counter((a.outcome, b.outcome) for a, b in pairs)
    changed = [(a, b) for a, b in pairs if (a.outcome is Outcome.RIGHT) != (b.outcome is Outcome.RIGHT)]
    return {
        "items": len(pairs),
        "first_only": len(first) - len(both),
        "second_only": len(second) - len(both),
        "other_truth": len(both) - len(same),
        "withheld": len(same) - len(pairs),
        "other_question": sum(a.question != b.question for a, b in pairs),
        "paired": paired(benchmark, one, two),
        "categories": _by_category(benchmark, one, two),
        "outcomes": {f"{a} to {b}": count for (a, b), count in sorted(moves.items())},
        "changed": [{"id": a.id, "first": a.outcome.value, "second": b.outcome.value} for a, b in changed],
    }


def _by_category(benchmark: Benchmark, one: Sequence[Result], two: Sequence[Result]) -> dict[str, dict[str, Any]]:
    """The main figure's difference by category of the first run."""
    found: dict[str, dict[str, Any]] = {}
    for name in columns_of_categories(one):
        for value in sorted({result.categories[name] for result in one if name in result.categories}):
            inside = [i for i, result in enumerate(one) if result.categories.get(name) == value]
            pair = paired(benchmark, [one[i] for i in inside], [two[i] for i in inside])
            main = pair["metrics"].get(benchmark.metric)
            if main is not None:
                found.setdefault(name, {})[value] = {"items": pair["items"], **main}
    return found


def left_out(column: Mapping[str, Any]) -> str:
    """How many items of a column were not compared, and why."""
    reasons = {
        "first_only": "only in the first", "second_only": "only in the second",
        "other_truth": "with another truth or other options", "withheld": "without a public answer",
    }  # fmt: skip
    return ", ".join(f"{column[key]:,} {words}" for key, words in reasons.items() if column[key])
