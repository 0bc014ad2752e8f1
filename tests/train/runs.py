"""Records about small clips, and runs on them: for the tests of `videollama2 train`."""

import json
from pathlib import Path
from typing import Any

from videollama2.train.build import Sources
from videollama2.train.run import train
from videollama2.train.settings import resolve

from .. import tiny

SAID = ("a red kite", "a bell rings", "one, two, three", "the lazy dog", "left and right", "up")
SMALL = {
    "steps": 4,
    "batch": 4,
    "mixture": {},
    "learning_rate": 1e-3,
    "save_every": 2,
    "trackers": (),
    "protocol": "full",
}


def make(folder: Path) -> Sources:
    """A tiny model, six clips, and seven records about them: with sound, without, and text alone."""
    tiny.save(folder / "model")
    records: list[dict[str, Any]] = []
    for i, said in enumerate(SAID):
        tiny.write_clip(folder / f"c{i}.mp4", frames=6 + i, sound=tiny.tone(0.6 + 0.1 * i, hz=300 + 100 * i))
        turns = [{"from": "human", "value": "what do you see?"}, {"from": "gpt", "value": said}]
        records.append({"id": i, "video": f"c{i}.mp4", "sound": i % 2 == 0, "conversations": turns})
    turns = [{"from": "human", "value": "how many?"}, {"from": "gpt", "value": "three!"}]
    records.append({"conversations": turns})
    (folder / "data.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    return Sources(model=str(folder / "model"), data=(str(folder / "data.jsonl"),))


def run(sources: Sources, output: Path, phase: str = "av_joint", resume: bool = False, **settings: Any) -> Any:
    """Train, without a word."""
    return train(sources, *resolve(phase, SMALL, settings), output, resume=resume, device="cpu", quiet=True)


def flags(sources: Sources, **settings: Any) -> list[str]:
    """The same, for the command line."""
    said = {"mixture": "none", "trackers": "", **{k: v for k, v in SMALL.items() if v not in ({}, ())}, **settings}
    out = ["--model", sources.model, "--data", *sources.data]
    return out + [word for k, v in said.items() for word in (f"--{k.replace('_', '-')}", str(v))]


def losses(output: Path) -> list[float]:
    """Of each step."""
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if line["event"] == "step"]
