"""What benchmarks with open answers and with captions have in common: judge-free verdicts and figures.

The judge, where one is asked, adds its judgements to the finished run; these stand next to them always.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from .benchmark import Benchmark
from .equivalence import read_against
from .items import Item, Outcome, Result, Setting, Verdict
from .measures import Cider, matches, rouge_l, token_f1, words

OVERLAP = ("exact_match", "token_f1", "rouge_l")
"""The scores of every open answer."""


def share(results: Sequence[Result]) -> float:
    """How many of the results are right, of all: 0 to 1."""
    return sum(result.outcome is Outcome.RIGHT for result in results) / len(results)


def mean(results: Sequence[Result], score: str) -> float:
    """The mean of a score over all results; one that has it not (failed, unparsable) counts 0."""
    return sum(result.scores.get(score, 0.0) for result in results) / len(results)


def scored(results: Sequence[Result]) -> list[Result]:
    """The results whose answers are public."""
    return [result for result in results if result.truth]


class OpenAnswers(Benchmark):
    """Short open answers: right where a rule of `equivalence.read_against` finds the reference in the reply.

    The paper's own figure takes a judge; both settings read alike.
    """

    def read(self, item: Item, reply: str, setting: Setting) -> Verdict:
        """The judge-free verdict, with scores exact_match, token_f1 and rouge_l."""
        reading = read_against(reply, self.short(item.truth))
        if reading.right is None:
            return Verdict(outcome=Outcome.UNPARSABLE, read=None, rule=reading.rule, scores=overlap(item, reply))
        outcome = Outcome.RIGHT if reading.right else Outcome.WRONG
        return Verdict(outcome=outcome, read=reading.read, rule=reading.rule, scores=overlap(item, reply))

    def short(self, truth: Sequence[str]) -> Sequence[str]:
        """What is looked for in replies, where that is less than the references."""
        return truth

    def metrics(self, results: Sequence[Result]) -> Mapping[str, float]:
        """accuracy by the rules, exact_match, token_f1, rouge_l; nothing where no answers are public."""
        known = scored(results)
        if not known:
            return {}
        return {"accuracy": share(known)} | {name: mean(known, name) for name in OVERLAP}


class Sentences(Benchmark):
    """Answers of sentences. No rule says which are right: RIGHT is an equal reference, and the scores count."""

    figures: tuple[str, ...] = OVERLAP

    def read(self, item: Item, reply: str, setting: Setting) -> Verdict:
        """Equal or not, with the scores that `figures` names."""
        if not words(reply):
            return Verdict(outcome=Outcome.UNPARSABLE, read=None, rule="no words")
        scores = overlap(item, reply)
        outcome, rule = (Outcome.RIGHT, "same words") if scores["exact_match"] else (Outcome.WRONG, "other words")
        return Verdict(outcome=outcome, read=" ".join(reply.split()), rule=rule, scores=scores)

    def metrics(self, results: Sequence[Result]) -> Mapping[str, float]:
        """Means of the figures over all results; nothing where no references are public."""
        known = scored(results)
        return {name: mean(known, name) for name in self.figures} if known else {}


class Captions(Sentences):
    """Captions with a corpus: CIDEr-D beside the rest. The `prepared` of each item is the benchmark's Cider."""

    figures: tuple[str, ...] = (*OVERLAP, "cider_of_10")

    def read(self, item: Item, reply: str, setting: Setting) -> Verdict:
        """Equal or not, with the scores that `figures` names."""
        assert isinstance(item.prepared, Cider), f"{item.origin} has no corpus"
        verdict = super().read(item, reply, setting)
        if verdict.read is None:
            return verdict
        return replace(verdict, scores={**verdict.scores, "cider_of_10": item.prepared.value(reply, item.truth)})


def with_corpus(items: Sequence[Item]) -> tuple[Item, ...]:
    """The items, each with the Cider of them all."""
    corpus = Cider(tuple(item.truth for item in items if item.truth))
    return tuple(replace(item, prepared=corpus) for item in items)


def overlap(item: Item, reply: str) -> dict[str, float]:
    """How far the words of a reply are those of its references, each 0 to 1."""
    return {
        "exact_match": float(any(matches(reply, reference) for reference in item.truth)),
        "token_f1": token_f1(reply, item.truth),
        "rouge_l": rouge_l(reply, item.truth),
    }
