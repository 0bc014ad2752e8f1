"""Measure the evaluation loop: items per second, and the time spent decoding, encoding and generating.

    python benchmarks/evaluation.py                             nano, 4 clips, 3 questions each: about three minutes
    python benchmarks/evaluation.py --model 2.1-7b-av --clips 40 --seconds 30 --json report.json

Each row of the table runs the same questions in a different way: a clip's beginning computed for each question or once,
items in batches, media decoded in this process or in workers, one or two threads, clips cached between questions or
not. Rows run in turn, --repeat times; the median counts. Replies that differ from the first row's are counted.

How to read it: the percentages divide the busy time. `overlap` is busy time over elapsed time; above 1, decoding ran
while the model computed. The clips are generated (moving noise and a tone), so nothing is downloaded.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is imported: idle threads must not spin on few cores

import argparse
import json
import logging
import platform
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import videollama2
from videollama2.data.composed.clips import SOUND_RATE_HZ, write_clip
from videollama2.evals.benchmark import Benchmark
from videollama2.evals.items import AnswerKind, Item, Loaded, Needed, Outcome, Result, Setting, Verdict
from videollama2.evals.run import evaluate
from videollama2.media import open_clip
from videollama2.media.clip_cache import ClipCache
from videollama2.media.worker import WorkerPool
from videollama2.text.media_parts import Media

RATE_FPS = 12
STAGES = ("decode", "encode", "generate")


@dataclass(frozen=True)
class Row:
    """One way to run the questions."""

    name: str
    each: bool = False  # every question decodes, encodes and prefills its clip
    isolated: bool = False
    cached: bool = False
    threads: int = 1
    batch: int | None = 1


ROWS = (
    Row("one process, each question alone", each=True),
    Row("one process"),
    Row("one process, batches by clip", batch=None),
    Row("one process, batches of 8", batch=8),
    Row("workers", isolated=True),
    Row("workers, two threads", isolated=True, threads=2),
    Row("workers, clips cached", isolated=True, cached=True),
    Row("workers, clips cached, two threads", isolated=True, cached=True, threads=2),
    Row("workers, clips cached, batches of 3", isolated=True, cached=True, batch=3),
)


class EachAlone:
    """An engine as the loop takes it that is not opened per clip."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)


class Clips(Benchmark):
    """A benchmark that asks about every mp4 file in a folder."""

    name, title, source = "clips", "Clips", "made by this script"
    kind: AnswerKind = "open"
    metric = "replies"
    needs: tuple[Needed, ...] = (Needed(path="*.mp4", what="clips"),)

    def __init__(self, questions: int, tokens: int) -> None:
        self.questions, self.tokens = questions, tokens

    def load(self, folder: Path, setting: Setting) -> Loaded:
        """`questions` items per clip, clip by clip."""
        items = [
            Item(
                id=f"{path.stem}-{i}",
                origin=path.name,
                question=f"What do you see and hear? Say it in {i + 5} words.",
                media=Media(source=path),
                truth=("anything",),
                max_new_tokens=self.tokens,
            )
            for path in sorted(folder.glob("*.mp4"))
            for i in range(self.questions)
        ]
        return Loaded(items=tuple(items))

    def read(self, item: Item, reply: str, setting: Setting) -> Verdict:
        """Every reply counts as right."""
        return Verdict(outcome=Outcome.RIGHT, read=reply)

    def metrics(self, results: Sequence[Result]) -> Mapping[str, float]:
        """The share of items with a reply."""
        return {"replies": sum(r.reply is not None for r in results) / max(len(results), 1)}


def make_clips(folder: Path, count: int, seconds: float, width: int, height: int) -> None:
    """Write clips of moving coloured noise with a rising tone."""
    rng = np.random.default_rng(0)
    times = np.arange(round(seconds * SOUND_RATE_HZ)) / SOUND_RATE_HZ
    for i in range(count):
        texture = np.kron(rng.integers(0, 255, (height // 8, width // 8, 3), np.uint8), np.ones((8, 8, 1), np.uint8))
        frames = np.stack([np.roll(texture, 3 * t, axis=1) for t in range(round(seconds * RATE_FPS))])
        wave = (0.3 * np.sin(2 * np.pi * times * (200 + 50 * i + 20 * times))).astype(np.float32)
        write_clip(folder / f"clip{i:03}.mp4", frames, wave, seconds=seconds)


def measure(
    engine: Any, row: Row, benchmark: Clips, folder: Path, out: Path
) -> tuple[dict[str, float], list[str | None]]:
    """Seconds of one run by the wall clock, and by stage; and its replies."""
    with WorkerPool(workers=row.threads) as media:
        opener: Any = media.open_clip if row.isolated else open_clip
        media.open_clip(next(folder.glob("*.mp4")))  # the first worker starts once in a run of any length
        engine.opener = ClipCache(opener) if row.cached else opener
        began = time.perf_counter()
        run = evaluate(
            EachAlone(engine) if row.each else engine, benchmark, folder, out, batch=row.batch, threads=row.threads
        )
        wall = time.perf_counter() - began
    failed = [result.error for result in run.results if result.error is not None]
    if failed:
        raise SystemExit(f"{len(failed)} items failed, the first with {failed[0]}")
    seconds = {"wall": wall, **{s: sum(r.seconds.get(s, 0.0) for r in run.results) for s in STAGES}}
    return seconds, [result.reply for result in run.results]


def table(found: Mapping[str, Mapping[str, float]], items: int) -> str:
    """The results as a text table, one line per row."""
    lines = [f"{'':<34}{'items/s':>9}{'decode':>9}{'encode':>9}{'generate':>10}{'overlap':>9}"]
    for name, seconds in found.items():
        busy = sum(seconds[stage] for stage in STAGES)
        shares = [f"{seconds[stage] / busy:.0%}" for stage in STAGES]
        lines.append(
            f"{name:<34}{items / seconds['wall']:>9.2f}{shares[0]:>9}{shares[1]:>9}{shares[2]:>10}"
            f"{busy / seconds['wall']:>9.2f}"
        )
    return "\n".join(lines)


def main() -> None:
    """Run every row, print the table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--clips", type=int, default=4, help="number of clips; default: %(default)s")
    parser.add_argument("--questions", type=int, default=3, help="questions per clip; default: %(default)s")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of each clip; default: %(default)s")
    parser.add_argument("--size", default="640x360", help="WIDTHxHEIGHT of the clips; default: %(default)s")
    parser.add_argument("--tokens", type=int, default=16, help="maximum new tokens per reply; default: %(default)s")
    parser.add_argument("--rows", nargs="+", choices=[row.name for row in ROWS], help="only these; default: all")
    parser.add_argument("--repeat", type=int, default=2, help="runs of each row; default: %(default)s")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    args = parser.parse_args()
    logging.getLogger("videollama2").setLevel(logging.ERROR)
    engine = videollama2.load(args.model, device=args.device)
    width, height = map(int, args.size.split("x"))
    benchmark, items = Clips(args.questions, args.tokens), args.clips * args.questions
    rows = [row for row in ROWS if args.rows is None or row.name in args.rows]
    runs: dict[str, list[dict[str, float]]] = {row.name: [] for row in rows}
    replies: dict[str, list[str | None]] = {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "clips"
        folder.mkdir()
        make_clips(folder, args.clips, args.seconds, width, height)
        engine.answer(next(folder.glob("*.mp4")), "What is it?", max_new_tokens=2)  # warm
        for turn in range(args.repeat):
            for row in rows:
                out = Path(place) / f"{turn}-{row.name}"
                seconds, replies[row.name] = measure(engine, row, benchmark, folder, out)
                runs[row.name].append(seconds)
    found = {
        name: sorted(several, key=lambda seconds: seconds["wall"])[(len(several) - 1) // 2]
        for name, several in runs.items()
    }
    print(table(found, items))
    first = next(iter(replies.values()))
    differing = {name: sum(a != b for a, b in zip(first, said, strict=True)) for name, said in replies.items()}
    print("replies that differ from the first row's:", sum(differing.values()))
    if args.json is not None:
        report = {
            "model": args.model,
            "device": str(engine.model.device),
            "machine": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "arguments": {k: str(v) for k, v in vars(args).items()},
            "items": items,
            "rows": [asdict(row) for row in rows],
            "dtype": str(engine.model.dtype).removeprefix("torch."),
            "seconds": runs,
            "replies_that_differ": differing,
            "items_per_second": {n: items / statistics.median(r["wall"] for r in s) for n, s in runs.items()},
        }
        args.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
