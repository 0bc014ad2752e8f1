"""A run's summary as plain data: the outcomes, figures with intervals, categories, columns side by side.

    summary(results, benchmark, manifest)["ablations"]["none"]
        items, media, withheld, outcomes {right: 61, …}, unexpected, errors, losses
        metrics     {accuracy: {value, low, high, by}}
        categories  {task: {action_count: {items, outcomes, metrics {accuracy: 0.4}, main {value, low, high, by}}}}
        crossed     figures of each combination of two categories, for benchmarks that name them; else None
    …["paired"]     one for each removed modality: differences to the full run, item by item
    …["leaks"]      where text alone is better than guessing: questions that give their answers away
    …["judges"]     judges' figures, and their agreement with the rules and with each other (judges.py)
    …["expected"]   published and reported figures beside ours (expected.py)

It depends on the results, the manifest and the judgements alone, so that of a resumed run is the same.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from ..benchmark import Benchmark
from ..items import ABLATIONS, Ablation, Outcome, Result, columns_of_categories
from ..judge.judgements import Judgement
from ..loop import UNEXPECTED
from ..stats import LEVEL, SAMPLES, SEED, Draws, interval, mcnemar, two_sided
from .expected import Where, compared
from .judges import judges
from .measuring import Measured, groups_of

FORMAT = 1
_LOSSES = 10  # most kinds of losses that are counted one by one
_LEAK_LEVEL = 0.01  # probability that any of a report's warnings is false

Columns = dict[Ablation, list[Result]]


def summary(
    results: Sequence[Result],
    benchmark: Benchmark,
    manifest: Mapping[str, Any],
    judgements: Sequence[Judgement] = (),
    probes: Sequence[Judgement] = (),
) -> dict[str, Any]:
    """All of a report's data, ready for JSON.

    Args:
        results: of all columns, in any order.
        manifest: of the run (manifest.py).
        judgements, probes: of judges, if the run was judged (judge/judgements.py).
    """
    columns = columns_of(results)
    groups = groups_of(*columns.values())
    # items whose answers are withheld can't be scored; they are counted
    measured = {
        name: Measured(benchmark, scored, Draws([groups[r.id] for r in scored]))
        for name, scored in ((name, [r for r in column if r.truth]) for name, column in columns.items())
    }
    run = manifest.get("run", {})
    found: dict[str, Any] = {
        "format": FORMAT,
        "benchmark": benchmark.name,
        "title": benchmark.title,
        "source": benchmark.source,
        "kind": benchmark.kind,
        "metric": benchmark.metric,
        "tabled": getattr(benchmark, "tabled", False),
        "model": run.get("model"),
        "setting": run.get("setting"),
        "coverage": dict(manifest.get("coverage", {})),
        "guessing": guessing(next(iter(columns.values()), [])),
        "intervals": {"level": LEVEL, "draws": SAMPLES, "seed": SEED, "drawn": "media"},
        "ablations": {name: _column(benchmark, columns[name], measured[name]) for name in columns},
        "paired": [
            _of_pair(benchmark, measured["none"], measured[name]) | {"ablation": name}
            for name in columns
            if name != "none" and "none" in columns
        ],
        "leaks": leaks(columns.get("text-only", [])),
        "judges": judges(judgements, results, probes),
        "manifest": dict(manifest),
    }
    full = measured.get("none")

    def figures_of(where: Where) -> tuple[int, Mapping[str, Any]]:
        """The number of items and the figures of the full run's items in some categories."""
        assert full is not None
        inside = full if not where else _part(benchmark, full, where)
        return len(inside.results), {name: asdict(figure) for name, figure in inside.estimates().items()}

    return {**found, "expected": compared(found, figures_of) if full is not None else []}


def _part(benchmark: Benchmark, full: Measured, where: Where) -> Measured:
    """The figures of the items whose categories are among those named."""
    inside = [r for r in full.results if all(r.categories.get(name) in values for name, values in where.items())]
    groups = groups_of(inside)
    return Measured(benchmark, inside, Draws([groups[result.id] for result in inside]))


def columns_of(results: Sequence[Result]) -> Columns:
    """The results by ablation, in the order of a report."""
    return {name: column for name in ABLATIONS if (column := [r for r in results if r.ablation == name])}


def guessing(results: Sequence[Result]) -> float | None:
    """The accuracy of guessing among the options; None if there are items without options."""
    counts = [len(result.choices) for result in results if result.truth]
    return sum(1 / n for n in counts) / len(counts) if counts and all(counts) else None


def paired(benchmark: Benchmark, first: Sequence[Result], second: Sequence[Result]) -> dict[str, Any]:
    """The second's differences to the first, on the scored items that both have.

    Both use the same draws, so what makes an item easy or hard for both does not blur their difference. McNemar's test
    counts the items that only one of them has right; for answers of sentences it would mean nothing.
    """
    other = {result.id: result for result in second if result.truth}
    one = [result for result in first if result.truth and result.id in other]
    two = [other[result.id] for result in one]
    groups = groups_of(one, two)
    draws = Draws([groups[result.id] for result in one])
    unshared = len({r.id for r in [*first, *second] if r.truth}) - len(one)
    return _difference(*(Measured(benchmark, column, draws) for column in (one, two))) | {"unshared": unshared}


def _of_pair(benchmark: Benchmark, first: Measured, second: Measured) -> dict[str, Any]:
    """As `paired`; if both have the same items, with the existing draws."""
    if [r.id for r in first.results] != [r.id for r in second.results]:
        return paired(benchmark, first.results, second.results)
    return _difference(first, second) | {"unshared": 0}


def _difference(first: Measured, second: Measured) -> dict[str, Any]:
    draws, one, two = first.draws, first.results, second.results
    differences = {}
    for name in (name for name in first.values if name in second.values):
        count = min(len(first.drawn[name]), len(second.drawn[name]))
        apart = second.drawn[name][:count] - first.drawn[name][:count]
        # if no draw can differ, an interval would mean nothing
        known = apart[np.isfinite(apart)]
        ends = interval(apart) if draws.groups > 1 and len(known) and np.ptp(known) > 1e-12 else None
        differences[name] = {
            "first": first.values[name],
            "second": second.values[name],
            "difference": second.values[name] - first.values[name],
            "low": None if ends is None else ends[0],
            "high": None if ends is None else ends[1],
            "p": None if ends is None else two_sided(apart),
        }
    pairs = [(x.outcome is Outcome.RIGHT, y.outcome is Outcome.RIGHT) for x, y in zip(one, two, strict=True)]
    only_first, only_second = pairs.count((True, False)), pairs.count((False, True))
    counted = {
        "both": pairs.count((True, True)),
        "first_only": only_first,
        "second_only": only_second,
        "neither": pairs.count((False, False)),
        "p": mcnemar(only_first, only_second),
    }
    return {
        "items": len(one),
        "media": draws.groups,
        "metrics": differences,
        "right": counted if "accuracy" in first.values else None,
    }


def outcomes(results: Sequence[Result]) -> dict[str, int]:
    """How many results have each outcome; malformed only if any is."""
    counted = Counter(result.outcome for result in results)
    return {o.value: counted[o] for o in Outcome if o is not Outcome.MALFORMED or counted[o]}


def _column(benchmark: Benchmark, column: Sequence[Result], measured: Measured) -> dict[str, Any]:
    scored = measured.results
    malformed = [result for result in column if result.outcome is Outcome.MALFORMED]
    withheld = [result for result in column if not result.truth and result.outcome is not Outcome.MALFORMED]
    losses = Counter(loss for result in column for loss in set(result.losses))
    return {
        "items": len(column),
        "media": measured.draws.groups,
        "outcomes": outcomes([*scored, *malformed]),
        # without a truth nothing is right or wrong: what was read goes into a submission file
        "withheld": {
            "items": len(withheld),
            "read": sum(r.outcome not in (Outcome.UNPARSABLE, Outcome.FAILED) for r in withheld),
            "unparsable": sum(r.outcome is Outcome.UNPARSABLE for r in withheld),
            "failed": sum(r.outcome is Outcome.FAILED for r in withheld),
        },
        "unexpected": sum((r.error or "").startswith(UNEXPECTED) for r in column),
        "errors": _counted(Counter(_kind(r.error) for r in column if r.error and r.outcome is Outcome.FAILED)),
        "losses": {"items": sum(bool(r.losses) for r in column), "kinds": _counted(losses, _LOSSES)},
        "metrics": {name: asdict(figure) for name, figure in measured.estimates().items()},
        "categories": {name: _categories(measured, name, benchmark.metric) for name in columns_of_categories(scored)},
        "crossed": _crossed(benchmark, scored, crossed) if (crossed := getattr(benchmark, "crossed", None)) else None,
    }


def _crossed(benchmark: Benchmark, scored: Sequence[Result], names: tuple[str, str]) -> dict[str, Any]:
    """The figures of each combination of two categories, in the order of their values."""
    places: dict[tuple[str, str], list[Result]] = {}
    for result in scored:
        if all(name in result.categories for name in names):
            places.setdefault((result.categories[names[0]], result.categories[names[1]]), []).append(result)
    cells = [
        {"values": list(values), "items": len(inside), "metrics": dict(benchmark.metrics(inside))}
        for values, inside in sorted(places.items())
    ]
    return {"by": list(names), "cells": cells}


def _categories(measured: Measured, name: str, metric: str) -> dict[str, Any]:
    return {
        value: {
            "items": len(found.results),
            "outcomes": outcomes(found.results),
            "metrics": found.figures,
            "main": None if found.main is None else asdict(found.main),
        }
        for value, found in sorted(measured.categories(name, metric).items())
    }


def _counted(counter: Counter[str], most: int | None = None) -> dict[str, int]:
    return dict(sorted(counter.items(), key=lambda pair: (-pair[1], pair[0]))[:most])


def _kind(error: str) -> str:
    return error.partition(":")[0].removeprefix(UNEXPECTED)


# ── leaks ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def leaks(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Where text alone is better than guessing: items, right, expected, p; `column` is None for the whole.

    Guessing takes each option equally often. The probability of at least as many right guesses is exact (a
    Poisson-binomial tail), for the whole and every category, at a level divided by their number.

    Args:
        results: of the text-only column; those without options or public answers are left out.
    """
    known = [result for result in results if result.truth and result.choices]
    groups: dict[tuple[str, str] | None, list[Result]] = {None: known} if known else {}
    for result in known:
        for category in result.categories.items():
            groups.setdefault(category, []).append(result)
    found = []
    for group, members in groups.items():
        column, value = group or (None, None)
        right = sum(result.outcome is Outcome.RIGHT for result in members)
        chances = [1 / len(result.choices) for result in members]
        p = tail(chances, right)
        if p * len(groups) < _LEAK_LEVEL:
            counts = {"items": len(members), "right": right, "expected": sum(chances), "p": p}
            found.append({"column": column, "value": value, **counts})
    return found


def tail(chances: Sequence[float], count: int) -> float:
    """The probability that `count` or more of independent events happen, each with its own chance."""
    counts = np.zeros(len(chances) + 1)
    counts[0] = 1.0
    for n, chance in enumerate(chances):
        counts[1 : n + 2] = counts[1 : n + 2] * (1 - chance) + counts[: n + 1] * chance
        counts[0] *= 1 - chance
    return float(min(1.0, counts[count:].sum()))
