"""A model whose every reply is known, with the Engine's face, and a benchmark whose items are given.

engine = FakeEngine({"Which is it?": "(A)", "clip7": RuntimeError("out of luck")}, otherwise="(B)")
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from videollama2.evals.benchmark import Benchmark
from videollama2.evals.items import Item, Loaded, Needed, Outcome, Result, Setting, Verdict
from videollama2.generation.request import Request
from videollama2.protocols import protocol
from videollama2.receipt import Answer, Receipt
from videollama2.text.media_parts import Media

Reply = str | BaseException


class FakeModel(nn.Module):
    """What the manifest asks of a model."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.arange(4.0))
        self.config = SimpleNamespace(num_frames=8)
        self.device, self.dtype = torch.device("cpu"), torch.float32


class FakeEngine:
    """Replies by key: a key that is the question, or a part of it, or a part of the medium's path; the first that fits.

    Attributes:
        asked: every request, in the order of asking; of a batch each of its requests.
        batches: sizes of the batches.
    """

    def __init__(
        self, replies: Mapping[str, Reply] | Callable[[Request], Reply] | None = None, *, otherwise: Reply = ""
    ) -> None:
        self.replies, self.otherwise = replies or {}, otherwise
        self.name, self.model, self.protocol = "fake", FakeModel(), protocol("released")
        self.opener: Any = None
        self.asked: list[Request] = []
        self.batches: list[int] = []

    def answer(self, media: Any = None, question: str | None = None, **kwargs: Any) -> Answer:
        request = media if isinstance(media, Request) else Request(media=media, question=question, **kwargs)
        self.asked.append(request)
        reply = self.reply(request)
        if isinstance(reply, BaseException):
            raise reply
        chosen = protocol(request.protocol or self.protocol).name
        receipt = Receipt(model=self.name, protocol=chosen, device="cpu", dtype="float32", video=None, audio=None)
        return Answer(
            reply, "stop", receipt, dict.fromkeys(["decode_seconds", "encode_seconds", "generate_seconds"], 0.0)
        )

    def batch(self, requests: Sequence[Any], **kwargs: Any) -> list[Answer]:
        self.batches.append(len(requests))
        return [self.answer(request) for request in requests]

    def reply(self, request: Request) -> Reply:
        """What is replied to a request."""
        if callable(self.replies):
            return self.replies(request)
        question, path = request.question or "", medium(request)
        if question in self.replies:
            return self.replies[question]
        return next((reply for key, reply in self.replies.items() if key in question or key in path), self.otherwise)


def medium(request: Request) -> str:
    """The path of a request's medium; empty without one."""
    return str(request.media[0].source) if request.media else ""


@dataclass(frozen=True, kw_only=True)
class Letters(Benchmark):
    """A benchmark of one file: lines {"id", "question", "truth", "video", "task"}."""

    name: str = "letters"
    title: str = "Letters"
    source: str = "made here"
    kind: Any = "choice"
    metric: str = "accuracy"
    needs: tuple[Needed, ...] = (Needed(path="letters.jsonl", what="the questions"),)
    notes: tuple[str, ...] = ()

    def load(self, folder: Path, setting: Setting) -> Loaded:
        path = folder / "letters.jsonl"
        items = []
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            row = json.loads(line)
            video = None if row.get("video") is None else folder / row["video"]
            there = video is None or video.exists()
            items.append(
                Item(
                    id=row["id"],
                    origin=f"letters.jsonl:{number}",
                    question=row["question"],
                    truth=(row["truth"],),
                    media=Media(source=video) if video is not None and there else None,
                    missing=None if there else f"{row['video']} not found",
                    choices=("yes", "no"),
                    categories={"task": row.get("task", "one")},
                    max_new_tokens=row.get("tokens", 8),
                )
            )
        return Loaded(items=tuple(items), notes=self.notes)

    def read(self, item: Item, reply: str, setting: Setting) -> Verdict:
        if reply == "odd":
            raise ZeroDivisionError("odd")
        letter = reply if reply in ("A", "B") else None
        if letter is None:
            return Verdict(outcome=Outcome.UNPARSABLE, read=None)
        return Verdict(outcome=Outcome.RIGHT if letter in item.truth else Outcome.WRONG, read=letter, rule="it is one")

    def metrics(self, results: Sequence[Result]) -> Mapping[str, float]:
        return {"accuracy": sum(r.outcome == Outcome.RIGHT for r in results) / max(len(results), 1)}


def letters(folder: Path, count: int = 4, **rows: Mapping[str, Any]) -> Path:
    """A folder with `count` items q0…; `rows` replaces fields by id, and a video that is a text is made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [
        {"id": f"q{i}", "question": f"Question q{i}?", "truth": "A", "video": None, **rows.get(f"q{i}", {})}
        for i in range(count)
    ]
    (folder / "letters.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return folder


def outcomes(results: Sequence[Result]) -> list[str]:
    """Of each result."""
    return [result.outcome.value for result in results]
