"""From a run's results to judges' questions: one for each result, kind and (under `paper`) reference."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ...errors import UsageError
from ..items import Ablation, Outcome, Result, Setting
from .judgements import BiasProbe
from .prompts import JUDGED, KINDS, JudgePrompt, QuestionKind, fill, padded, swapped

CUT = 50  # characters of a prediction that the published judge is shown when asked again


@dataclass(frozen=True, kw_only=True)
class JudgeQuestion:
    """One question to a judge about one result.

    Attributes:
        about: hash of what is judged (`abouts`).
        second: of a pair, the result of the other question.
        reference: index in `result.truth`, if each reference is judged alone.
    """

    result: Result
    kind: QuestionKind
    prompt: JudgePrompt
    setting: Setting
    about: str
    second: Result | None = None
    reference: int | None = None
    probe: BiasProbe | None = None

    @property
    def unasked(self) -> str | None:
        """Why there is nothing to judge; None if there is."""
        for result in (self.result, self.second):
            if result is not None and (result.outcome is Outcome.FAILED or result.reply is None):
                return f"the model gave no reply to {result.id}: {result.error or 'it is missing'}"
        if self.kind.paired and self.second is None:
            return f"{self.result.id} has no second question to be consistent with"
        return None

    def messages(self, take: int = 0) -> list[dict[str, str]]:
        """The messages to send; a further take may differ from the first."""
        predictions = [r.reply or "" for r in (self.result, self.second) if r is not None]
        if self.probe == "verbosity":
            predictions = [padded(p) for p in predictions]
        if take and self.kind.cut_retry:
            predictions = [p[:CUT] for p in predictions]
        truth = self.result.truth
        references = truth if self.reference is None else truth[self.reference : self.reference + 1]
        values: dict[str, str | tuple[str, ...]] = {"answer": references[0] if len(references) == 1 else references}
        if self.kind.paired and self.second is not None:
            values |= {"question1": self.result.question, "question2": self.second.question}
            values |= {f"prediction{i}": text for i, text in enumerate(predictions, 1)}
        else:
            values |= {"question": self.result.question, "prediction": predictions[0]}
        return fill(swapped(self.prompt) if self.probe == "order" else self.prompt, values)


def is_judged(benchmark: str) -> bool:
    """Whether a benchmark is judged by default."""
    return any(name.partition("/")[0] == benchmark.replace("_", "-") for name in JUDGED)


def kinds_of(result: Result, asked: Sequence[str] = ()) -> tuple[QuestionKind, ...]:
    """The kinds of questions about a result: the requested ones, else those of its benchmark.

    Raises:
        UsageError: an unknown kind, or a benchmark that is not judged unless a kind is named.
    """
    if unknown := [name for name in asked if name not in KINDS]:
        raise UsageError(f"unknown kind of question {unknown[0]!r}; expected one of {', '.join(KINDS)}.")
    names: Sequence[str] | None = asked
    if not names:
        name, part = result.benchmark.replace("_", "-"), result.categories.get("part")
        names = JUDGED.get(name) or JUDGED.get(f"{name}/{part}")
    if not names:
        known = ", ".join(dict.fromkeys(name.partition("/")[0] for name in JUDGED))
        raise UsageError(
            f"{result.benchmark} needs no judge; judged are {known}. --kind asks a kind of question anyway, one of "
            f"{', '.join(KINDS)}."
        )
    return tuple(KINDS[name] for name in names)


def questions_of(
    results: Sequence[Result], kinds: Sequence[str], setting: Setting, prompts: Mapping[str, JudgePrompt]
) -> list[JudgeQuestion]:
    """Every question about these results, in their order. Results with withheld answers have none.

    Raises:
        UsageError: as `kinds_of`.
    """
    seconds, known = _seconds(results), abouts(results)
    found = []
    for result in results:
        about = known[result.ablation, result.id]
        for kind in kinds_of(result, kinds) if result.truth else ():
            if kind.paired and result.categories.get("pair_place") == "2":
                continue
            second = seconds.get((result.ablation, result.categories.get("pair", ""))) if kind.paired else None
            question = JudgeQuestion(
                result=result, kind=kind, prompt=prompts[kind.name], setting=setting, about=about, second=second
            )  # fmt: skip
            if kind.references == "each" and setting == "paper":
                found += [replace(question, reference=i) for i in range(len(result.truth))]
            else:
                found.append(question)
    return found


def abouts(results: Sequence[Result]) -> dict[tuple[Ablation, str], str]:
    """For each result, in order, a hash of what judges see of it (and of the second of its pair)."""
    seconds = _seconds(results)
    found = {}
    for r in results:
        both = [r, seconds.get((r.ablation, r.categories.get("pair", "")))]
        seen = [[one.question, one.truth, one.reply, one.outcome is Outcome.FAILED] for one in both if one is not None]
        found[r.ablation, r.id] = hashlib.sha256(json.dumps(seen).encode("ascii")).hexdigest()[:16]
    return found


def _seconds(results: Sequence[Result]) -> dict[tuple[Ablation, str], Result]:
    """The results of second questions, by the name of their pair."""
    return {(r.ablation, r.categories["pair"]): r for r in results if r.categories.get("pair_place") == "2"}
