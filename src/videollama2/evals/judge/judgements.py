"""Judgements of a run, and their files.

RUN/judgements.jsonl      one Judgement per line: item × ablation × judge × kind (× reference)
RUN/judge_probes.jsonl    the same for probes of bias, which never count in a score
RUN/judge_manifest.json   judges, parameters, prompts, settings, and cost
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from ...errors import DataError
from ...jobs import write_lines
from ..items import Ablation, Setting

FILE, PROBES, MANIFEST = "judgements.jsonl", "judge_probes.jsonl", "judge_manifest.json"

State = Literal["judged", "unparsable", "failed"]
BiasProbe = Literal["order", "verbosity"]


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """One line of judgements.jsonl.

    Attributes:
        id, ablation: of the result that is judged; of a pair, the first of the two.
        judge: name of the judge's model.
        kind: of the question (prompts.KINDS).
        reference: index of the reference, if each is judged alone; else None.
        state: `judged`; `unparsable`: no rating in the judge's reply; `failed`: no reply of the judge, or no reply of
            the model to judge. Only `judged` has a score.
        score: 0 to 5.
        verdict: "yes" or "no", for kinds that ask for one.
        reply: of the judge, unchanged.
        error: why there is no rating.
        tokens_in, tokens_out: as the server counts them.
        asked: hash of setting, parameters and prompt; lines that differ in it aren't compared.
        about: hash of the judged question, references and reply (`questions.abouts`); a line is stale once its result
            has another reply.
        request: the reply's key in the cache.
    """

    id: str
    ablation: Ablation
    judge: str
    kind: str
    reference: int | None
    probe: BiasProbe | None
    setting: Setting
    state: State
    score: float | None
    verdict: Literal["yes", "no"] | None
    reply: str | None
    error: str | None
    tokens_in: int | None
    tokens_out: int | None
    served: str | None
    asked: str
    about: str
    request: str | None

    @property
    def place(self) -> tuple[str, Ablation, str, str, int | None, BiasProbe | None]:
        """The key of a judgement: unique in a file."""
        return self.id, self.ablation, self.judge, self.kind, self.reference, self.probe

    def to_dict(self) -> dict[str, Any]:
        """As plain data, ready for JSON."""
        return asdict(self)


def read_judgements(folder: Path, name: str = FILE) -> list[Judgement]:
    """The judgements of a run; none if it was not judged.

    Raises:
        DataError: a line is not a judgement.
    """
    path = folder / name
    if not path.is_file():
        return []
    found = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            judgement = Judgement(**json.loads(line))
            if judgement.state not in get_args(State):
                raise ValueError(f"its state is {judgement.state!r}")
        except (ValueError, TypeError, RecursionError) as error:
            raise DataError(f"{path}:{number}: not a judgement ({error}); remove the line, or judge again.") from error
        found.append(judgement)
    return found


def write_judgements(folder: Path, name: str, judgements: Iterable[Judgement]) -> None:
    """Replace the file as a whole.

    Raises:
        StorageError: it can't be written; the old one is intact.
    """
    write_lines(folder / name, (j.to_dict() for j in judgements))


def fresh(lines: Iterable[Judgement], abouts: Mapping[tuple[Ablation, str], str]) -> list[Judgement]:
    """The judgements of results that exist and have not changed since."""
    return [j for j in lines if abouts.get((j.ablation, j.id)) == j.about]


def merged(
    old: Sequence[Judgement], new: Sequence[Judgement], abouts: Mapping[tuple[Ablation, str], str]
) -> list[Judgement]:
    """Old and new judgements in the order of the results, then of judges, kinds and references.

    A new judgement replaces the old one with its key, but a failure never replaces a rating. Dropped are stale ones,
    and old ones of a judge and kind whose question has changed.
    """
    asked = {(j.judge, j.kind): j.asked for j in new}
    kept = {j.place: j for j in fresh(old, abouts) if asked.get((j.judge, j.kind), j.asked) == j.asked}
    for j in new:
        if j.state != "failed" or j.place not in kept or kept[j.place].state == "failed":
            kept[j.place] = j
    order = {place: i for i, place in enumerate(abouts)}

    def at(j: Judgement) -> tuple[int, str, str, int, str]:
        return order[j.ablation, j.id], j.judge, j.kind, -1 if j.reference is None else j.reference, j.probe or ""

    return sorted(kept.values(), key=at)
