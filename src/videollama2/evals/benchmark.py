"""The base class of all benchmarks: load, ask, read, score.

A benchmark is a small module in `benchmarks/` that subclasses `ChoiceBenchmark`, `YesNoBenchmark` (choices.py),
`ClassBenchmark`, `OptionBenchmark` (closed_sets.py), `OpenBenchmark`, `SentenceBenchmark` or `CaptionBenchmark`
(open_answers.py), names the files it is read from, and turns their records into Items. `registry.py` lists them.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

from .items import AnswerKind, FoundMedia, Item, Loaded, Needed, Outcome, Result, Setting, Verdict


class Benchmark(ABC):
    """One benchmark.

    Attributes:
        name: on the command line ("mvbench").
        title: in reports ("MVBench").
        source: paper or home page, in words.
        needs: the files it is read from, for `videollama2 eval list`.
        published: number of items of the full benchmark; None: unknown, or the files have several sets.
        official: what the authors' prompt and scorer do differently, for `videollama2 eval self-test`.
        kind: `choice`: a letter; `closed`: one of a known set; `open`: words, judged; `caption`: sentences, judged.
        metric: the name of the main figure among `metrics`.
        tabled: whether reports have a table of all figures for each category.
        crossed: two categories whose combinations get a table of all figures in reports.
        reply_tokens: longest reply under `strict`.
        paper_reply_tokens: under `paper`; the original's evaluation allows 2048, whatever is asked.
        protocol, frames: media preparation under `paper`; None: the protocol "paper", and the model's own number.
    """

    name: str
    title: str
    source: str
    needs: tuple[Needed, ...]
    kind: AnswerKind
    published: int | None = None
    official: str = ""
    metric: str = "accuracy"
    tabled: bool = False
    crossed: tuple[str, str] | None = None
    reply_tokens: ClassVar[int] = 64
    paper_reply_tokens: ClassVar[int] = 2048
    protocol: str | None = None
    frames: int | None = None

    @abstractmethod
    def load(self, folder: Path, setting: Setting) -> Loaded:
        """Every item of the annotation files in `folder`; a record that can't be asked is a malformed item.

        Raises:
            DataError: a file is missing or malformed, or no record can be asked; the message says where.
        """

    @abstractmethod
    def read(self, item: Item, reply: str, setting: Setting) -> Verdict:
        """What the reply answers, by the rules of the setting."""

    def metrics(self, results: Sequence[Result]) -> Mapping[str, float]:
        """The figures of some results (all, a category, or a bootstrap sample): 0 to 1, unless the name says more.

        The default is the accuracy over all items whose answers are public; without any, there are no figures.
        """
        known = scored(results)
        return {"accuracy": accuracy(known)} if known else {}

    def with_frames(self, frames: int) -> Self:
        """The benchmark for videos of so many frames. Override it if questions depend on the sampled frames."""
        return self

    def submission(self, results: Sequence[Result]) -> Mapping[str, str]:
        """Files for an evaluation server, by name. Override it if answers are withheld."""
        return {}

    def item(
        self,
        setting: Setting,
        origin: str,
        found: FoundMedia,
        *,
        id: str,
        question: str,
        truth: Sequence[str],
        choices: Sequence[str] = (),
        categories: Mapping[str, str] | None = None,
        prepared: Any = None,
    ) -> Item:
        """An Item with the benchmark's longest reply; the arguments are its attributes."""
        media, missing = found
        return Item(
            id=id,
            origin=origin,
            question=question,
            media=media,
            missing=missing,
            truth=tuple(truth),
            choices=tuple(choices),
            categories={} if categories is None else categories,
            max_new_tokens=self.paper_reply_tokens if setting == "paper" else self.reply_tokens,
            prepared=prepared,
        )


def verdict(read: str | None, rule: str, *, right: bool, scores: Mapping[str, float] | None = None) -> Verdict:
    """RIGHT or WRONG; UNPARSABLE if nothing was read."""
    outcome = Outcome.UNPARSABLE if read is None else Outcome.RIGHT if right else Outcome.WRONG
    return Verdict(outcome=outcome, read=read, rule=rule, scores=scores or {})


def scored(results: Sequence[Result]) -> list[Result]:
    """The results whose answers are public."""
    return [result for result in results if result.truth]


def accuracy(results: Sequence[Result]) -> float:
    """The share of right results, 0 to 1."""
    return sum(result.outcome is Outcome.RIGHT for result in results) / len(results)


def mean(results: Sequence[Result], score: str) -> float:
    """The mean of a score over all results; one that lacks it (failed, unparsable) counts 0."""
    return sum(result.scores.get(score, 0.0) for result in results) / len(results)
