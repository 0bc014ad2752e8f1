"""Judges' figures of a run's open answers, with intervals, and their agreement (judge/agreement.py).

A judge's figures are shown beside the judge-free ones, never instead of them. Their intervals come from draws of media,
as all others. Only judgements of the full run count; probes of a judge's bias never do.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from ..items import Result
from ..judge.agreement import between_judges, bias, item_values, with_measures
from ..judge.judgements import Judgement, fresh
from ..judge.questions import abouts
from ..stats import Draws, Estimate, interval, wilson
from .measuring import groups_of


def judges(
    judgements: Sequence[Judgement], results: Sequence[Result], probes: Sequence[Judgement] = ()
) -> dict[str, Any]:
    """Figures and agreements of all judges; empty without judgements.

    Returns:
        `verdicts`: for each judge and kind of question: its setting, the states of its questions, and as `metrics` the
        share of yes (`match_accuracy`) and the mean score (`match_of_5`).
        `between`, `measures`, `bias`: as in judge/agreement.py. `stale`: number of judgements of replies that have
        changed since, which are ignored.
    """
    full = {result.id: result for result in results if result.ablation == "none" and result.truth}
    known = abouts(results)
    counted, probed = (
        [j for j in fresh(written, known) if j.ablation == "none" and j.id in full] for written in (judgements, probes)
    )
    if not counted:
        return {}
    asked: dict[tuple[str, str], list[Judgement]] = {}
    for judgement in counted:
        asked.setdefault((judgement.judge, judgement.kind), []).append(judgement)
    return {
        "verdicts": [_verdicts(judge, kind, found, full) for (judge, kind), found in asked.items()],
        "between": between_judges(counted),
        "measures": with_measures(counted, list(full.values())),
        "bias": bias(counted, probed),
        "stale": len(judgements) - len(fresh(judgements, known)),
    }


def _verdicts(judge: str, kind: str, found: Sequence[Judgement], full: Mapping[str, Result]) -> dict[str, Any]:
    groups = groups_of(list(full.values()))
    metrics = {}
    for figure, values in item_values(found).items():
        draws = Draws([groups[id] for id in values])
        given = np.array([math.nan if value is None else value for value in values.values()])
        if np.isfinite(given).any():
            name = f"{kind}_accuracy" if figure == "accuracy" else f"{kind}_of_5"
            metrics[name] = asdict(_estimate(given, draws, share=figure == "accuracy"))
    states = [judgement.state for judgement in found]
    return {
        "judge": judge,
        "kind": kind,
        "setting": found[0].setting,
        "items": len({judgement.id for judgement in found}),
        **{state: states.count(state) for state in ("judged", "unparsable", "failed")},
        "metrics": metrics,
    }


def _estimate(values: np.ndarray[Any, Any], draws: Draws, *, share: bool) -> Estimate:
    value = float(np.nanmean(values))
    if share and value in (0.0, 1.0):
        return Estimate(value, *wilson(value * draws.groups, draws.groups), by="wilson")
    ends = interval(draws.ratios(np.nan_to_num(values), np.isfinite(values))) if draws.groups > 1 else None
    return Estimate(value, None, None, by=None) if ends is None else Estimate(value, *ends)
