"""Figures from judgements: scores, how far judges agree with each other and with measures that need none, and bias."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from ..items import Outcome, Result
from ..journal import read_results
from ..stats import cohen_kappa, spearman
from .judgements import PROBES, Judgement, fresh, read_judgements
from .prompts import KINDS
from .questions import abouts

ItemValues = dict[str, float | None]
Pairs = Sequence[tuple[Judgement, Judgement]]


def item_values(judgements: Sequence[Judgement]) -> dict[str, ItemValues]:
    """Each item's values for the figures of one judge, kind and ablation; a figure is the mean of its values.

    Args:
        judgements: of one judge, kind and ablation.

    Returns:
        {"score": {id: 0 to 5}, "accuracy": {id: 1.0 for yes, else 0.0}} (accuracy of kinds with a verdict). Under
        `strict`, an item without a verdict counts 0. Under `paper` it is None and not part of the mean, but with
        kinds whose published scorer keeps it in the denominator; there, several references of an item are averaged.
    """
    by_id: defaultdict[str, list[Judgement]] = defaultdict(list)
    for judgement in judgements:
        by_id[judgement.id].append(judgement)
    scores: ItemValues = {}
    verdicts: ItemValues = {}
    for name, lines in by_id.items():
        kind = KINDS[lines[0].kind]
        known = [j for j in lines if j.score is not None]
        out = not known and lines[0].setting == "paper" and not kind.all_count
        scores[name] = None if out else sum(j.score or 0.0 for j in known) / len(lines)
        if kind.verdict:
            verdicts[name] = None if out else sum(j.verdict == "yes" for j in known) / len(lines)
    return {"accuracy": verdicts, "score": scores} if verdicts else {"score": scores}


def figures(judgements: Sequence[Judgement]) -> list[dict[str, Any]]:
    """By ablation, judge and kind: accuracy and score (`item_values`), and counts of the states."""
    found = []
    for (ablation, judge, kind), lines in _grouped(judgements).items():
        means = {}
        for name, values in item_values(lines).items():
            counted = [v for v in values.values() if v is not None]
            means[name] = sum(counted) / len(counted) if counted else None
        states = Counter(j.state for j in lines)
        found.append({
            "ablation": ablation, "judge": judge, "kind": kind, **means,
            "questions": len(lines), "judged": states["judged"], "unparsable": states["unparsable"],
            "failed": states["failed"],
        })  # fmt: skip
    return found


def between_judges(judgements: Sequence[Judgement]) -> list[dict[str, Any]]:
    """Agreement of every two judges on the questions that both judged, over all ablations.

    `kappa`: Cohen's, of yes and no; `spearman`: of the scores; `same`: share of equal verdicts, or of equal scores for
    kinds without a verdict. None if undefined (`stats.cohen_kappa`, `stats.spearman`).
    """
    by_judge: defaultdict[tuple[str, str], dict[Any, Judgement]] = defaultdict(dict)
    for j in judgements:
        if j.state == "judged":
            by_judge[j.kind, j.judge][j.ablation, j.id, j.reference] = j
    found = []
    for (kind, first), (other, second) in combinations(sorted(by_judge), 2):
        if kind == other:
            a, b = by_judge[kind, first], by_judge[kind, second]
            pairs = [(a[place], b[place]) for place in a if place in b]
            found.append({"kind": kind, "judges": [first, second], **_compared(pairs)})
    return found


def with_measures(judgements: Sequence[Judgement], results: Sequence[Result]) -> list[dict[str, Any]]:
    """Agreement of each judge with the judge-free measures, on the items that it judged.

    For each score of the results (exact_match, token_f1, rouge_l…): `spearman` with the judge's score. For the outcome
    by rules ("rules"), and for scores that are 0 or 1: Cohen's `kappa` with the judge's yes and no.
    """
    by_item = {(r.ablation, r.id): r for r in results if r.outcome is not Outcome.FAILED}
    lines: defaultdict[tuple[str, str], list[tuple[Judgement, Result]]] = defaultdict(list)
    for j in judgements:
        if j.state == "judged" and (j.ablation, j.id) in by_item:
            lines[j.judge, j.kind].append((j, by_item[j.ablation, j.id]))
    found = []
    for (judge, kind), pairs in sorted(lines.items()):
        measures = ["rules"] if KINDS[kind].verdict else []
        measures += sorted({name for _, result in pairs for name in result.scores})
        for measure in measures:
            known = [(j, v) for j, r in pairs if (v := _value(r, measure)) is not None]
            yes_no = KINDS[kind].verdict and all(v in (0.0, 1.0) for _, v in known)
            found.append({
                "judge": judge, "kind": kind, "measure": measure, "items": len(known),
                "kappa": cohen_kappa([j.verdict == "yes" for j, _ in known], [v == 1.0 for _, v in known])
                if yes_no else None,
                "spearman": spearman([j.score or 0.0 for j, _ in known], [v for _, v in known]),
            })  # fmt: skip
    return found


def bias(judgements: Sequence[Judgement], probed: Sequence[Judgement]) -> list[dict[str, Any]]:
    """How often a judge's rating changes if only the order or the length changes.

    `changed`: share of verdicts (or scores, for kinds without a verdict) that differ from the plain question's;
    `to_yes`, `to_no`: by direction; `shift`: mean change of the score. Only questions judged in both forms and
    otherwise equal count.
    """
    plain = {(*j.place[:-1], j.asked): j for j in judgements if j.state == "judged"}
    pairs: defaultdict[tuple[str, str, str], list[tuple[Judgement, Judgement]]] = defaultdict(list)
    for j in probed:
        before = plain.get((*j.place[:-1], j.asked))
        if j.state == "judged" and before is not None and j.probe is not None:
            pairs[j.judge, j.kind, j.probe].append((before, j))
    found = []
    for (judge, kind, probe), both in sorted(pairs.items()):
        compared = _compared(both)
        ways = Counter((a.verdict, b.verdict) for a, b in both)
        verdicts = KINDS[kind].verdict
        found.append({
            "judge": judge, "kind": kind, "probe": probe, "questions": len(both),
            "changed": 1 - compared["same"],
            "to_yes": ways["no", "yes"] / len(both) if verdicts else None,
            "to_no": ways["yes", "no"] / len(both) if verdicts else None,
            "shift": compared["shift"],
        })  # fmt: skip
    return found


def judge_summary(folder: Path, results: Sequence[Result] | None = None) -> dict[str, Any] | None:
    """All of a run's judgements summarised, as plain data; None if it was not judged.

    Keys: figures, judges (agreement of every two), measures (agreement with judge-free measures), bias, and stale: the
    number of judgements dropped because the run's replies have changed; judging again replaces them.

    Raises:
        UsageError, DataError: the run can't be read.
    """
    results = read_results(folder) if results is None else results
    known = abouts(results)
    written = read_judgements(folder)
    if not written:
        return None
    judgements = fresh(written, known)
    return {
        "stale": len(written) - len(judgements),
        "figures": figures(judgements),
        "judges": between_judges(judgements),
        "measures": with_measures(judgements, results),
        "bias": bias(judgements, fresh(read_judgements(folder, PROBES), known)),
    }


def _grouped(judgements: Sequence[Judgement]) -> dict[tuple[str, str, str], list[Judgement]]:
    groups: defaultdict[tuple[str, str, str], list[Judgement]] = defaultdict(list)
    for j in judgements:
        groups[j.ablation, j.judge, j.kind].append(j)
    return dict(groups)


def _compared(pairs: Pairs) -> dict[str, Any]:
    with_verdict = bool(pairs) and KINDS[pairs[0][0].kind].verdict
    same = sum(a.verdict == b.verdict if with_verdict else a.score == b.score for a, b in pairs)
    return {
        "questions": len(pairs),
        "same": same / len(pairs) if pairs else None,
        "kappa": cohen_kappa([a.verdict for a, _ in pairs], [b.verdict for _, b in pairs]) if with_verdict else None,
        "spearman": spearman([a.score or 0.0 for a, _ in pairs], [b.score or 0.0 for _, b in pairs]),
        "shift": sum((b.score or 0.0) - (a.score or 0.0) for a, b in pairs) / len(pairs) if pairs else None,
    }


def _value(result: Result, measure: str) -> float | None:
    if measure == "rules":
        return float(result.outcome is Outcome.RIGHT)
    value: Mapping[str, float] = result.scores
    return value.get(measure)
