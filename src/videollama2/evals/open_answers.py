"""Benchmarks with open answers and with captions: judge-free verdicts and figures.

A judge, if one is used, adds its judgements to the finished run; these figures are always there beside them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from .benchmark import Benchmark, accuracy, mean, scored, verdict
from .equivalence import Reading, read_against
from .items import AnswerKind, Item, Loaded, Result, Setting, Verdict
from .measures import Cider, bleu, matches, rouge_l, token_f1, words

OVERLAP = ("exact_match", "token_f1", "rouge_l")
"""The scores of every open answer."""


class OpenBenchmark(Benchmark):
    """Short open answers: right if a rule of `equivalence.read_against` finds the reference in the reply.

    The paper's figure takes a judge; replies are read alike in both settings.
    """

    kind: AnswerKind = "open"
    reply_tokens = 128

    def read(self, item: Item, reply: str, setting: Setting) -> Verdict:
        """The judge-free verdict, with scores exact_match, token_f1 and rouge_l."""
        reading = read_against(reply, self.key_words(item.truth))
        same = next((reference for reference in item.truth if matches(reply, reference)), None)
        if same is not None:  # whatever its key words are
            reading = Reading(True, same, "same answer")
        return verdict(reading.read, reading.rule, right=bool(reading.right), scores=overlap(item, reply))

    def key_words(self, truth: Sequence[str]) -> Sequence[str]:
        """What to look for in a reply. Override it if that is less than the references."""
        return truth

    def metrics(self, results: Sequence[Result]) -> Mapping[str, float]:
        """accuracy by the rules, exact_match, token_f1, rouge_l; nothing if no answers are public."""
        known = scored(results)
        return {"accuracy": accuracy(known)} | {name: mean(known, name) for name in OVERLAP} if known else {}


class SentenceBenchmark(Benchmark):
    """Answers of sentences. No rule can tell which are right: RIGHT equals a reference; the scores say more."""

    kind: AnswerKind = "open"
    metric = "token_f1"
    figures: tuple[str, ...] = OVERLAP

    def read(self, item: Item, reply: str, setting: Setting) -> Verdict:
        """Equal to a reference or not, with the scores of `figures`."""
        if not words(reply):
            return verdict(None, "no words", right=False)
        scores = overlap(item, reply)
        equal = bool(scores["exact_match"])
        return verdict(" ".join(reply.split()), "same words" if equal else "other words", right=equal, scores=scores)

    def metrics(self, results: Sequence[Result]) -> Mapping[str, float]:
        """Means of the figures over all results; nothing if no references are public."""
        known = scored(results)
        return {name: mean(known, name) for name in self.figures} if known else {}


class CaptionBenchmark(SentenceBenchmark):
    """Captions: CIDEr-D besides the rest. The `prepared` of each item is the benchmark's Cider (`with_corpus`)."""

    kind: AnswerKind = "caption"
    metric = "cider_of_10"
    figures: tuple[str, ...] = (*OVERLAP, "cider_of_10")

    def read(self, item: Item, reply: str, setting: Setting) -> Verdict:
        """Equal to a reference or not, with the scores of `figures`."""
        assert isinstance(item.prepared, Cider), f"{item.origin} has no corpus"
        found = super().read(item, reply, setting)
        if found.read is None:
            return found
        return replace(found, scores={**found.scores, "cider_of_10": item.prepared.value(reply, item.truth)})


def with_corpus(loaded: Loaded) -> Loaded:
    """The items, each with the Cider of them all."""
    corpus = Cider(tuple(item.truth for item in loaded.items if item.truth))
    return replace(loaded, items=tuple(replace(item, prepared=corpus) for item in loaded.items))


# ── last turns of dialogues ────────────────────────────────────────────────────────────────────────────────────────


def with_last_turns(loaded: Loaded) -> Loaded:
    """The items, those of last turns (category `turn`) with the Cider of all last turns."""
    last = [item for item in loaded.items if item.categories.get("turn") == "last" and item.truth]
    corpus, ids = Cider(tuple(item.truth for item in last)), {item.id for item in last}
    items = (replace(item, prepared=corpus) if item.id in ids else item for item in loaded.items)
    return replace(loaded, items=tuple(items))


def with_value(found: Verdict, item: Item, reply: str) -> Verdict:
    """The verdict, with cider_of_10 if the item has a corpus."""
    if not isinstance(item.prepared, Cider) or found.read is None:
        return found
    return replace(found, scores={**found.scores, "cider_of_10": item.prepared.value(reply, item.truth)})


def last_turn_figures(results: Sequence[Result]) -> dict[str, float]:
    """DSTC's figures of the last turns: BLEU-4 of them all, means of ROUGE-L and CIDEr-D; none without last turns."""
    last = [result for result in scored(results) if result.categories.get("turn") == "last"]
    if not last:
        return {}
    return {
        "last_turn_accuracy": accuracy(last),
        "last_turn_bleu_4": bleu([(result.reply or "", result.truth) for result in last]),
        "last_turn_rouge_l": mean(last, "rouge_l"),
        "last_turn_cider_of_10": mean(last, "cider_of_10"),
    }


def overlap(item: Item, reply: str) -> dict[str, float]:
    """How far the words of a reply match those of its references, each 0 to 1."""
    return {
        "exact_match": float(any(matches(reply, reference) for reference in item.truth)),
        "token_f1": token_f1(reply, item.truth),
        "rouge_l": rouge_l(reply, item.truth),
    }
