"""Evaluate nano on held-out clips: real mp4 files, the ordinary engine, free answers.

    python recipes/nano/evaluate.py make CLIPS --pictures pictures.npz --sounds sounds.npz [--clips 200]
    python recipes/nano/evaluate.py run CLIPS --out records.jsonl [--model nano] [--settings all "no video" "no audio"]
    python recipes/nano/evaluate.py table records.jsonl

Five sets of clips, all from held-out pictures and recordings (another split of the photos, drawings by another artist,
recordings from other sources): `ten` (photos of ten classes, ten classes of sound), `wide` (things of 78 classes),
`match` (things with a held-out recording, which half of the clips use), `order` (two things and two sounds in turn),
`count` (one to three coloured shapes or drawings). Every question is repeated without the modality that it is about. An
answer is right if it equals the truth up to case, punctuation and articles; for `match` its last word, the verdict,
counts. An interrupted run resumes.
"""

import argparse
import json
import math
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from questions import WORDINGS, ask, normalise

import videollama2
from videollama2.data.composed import (
    PicturePack,
    Scene,
    SoundPack,
    compose,
    render_frames,
    render_sound,
    sound_of,
    write_clip,
)

SEED, SIDE, FRAMES_PER_SECOND = 77_000, 224, 6
TEN_SOUNDS = (
    "a piano", "a guitar", "a violin", "a flute", "a trumpet", "an organ", "a xylophone", "drums", "birds", "speech",
)  # fmt: skip
PLAIN = {
    "stamps": 0.0, "drawings": 0.0, "shapes": 0.0, "two": 0.0, "several": 0.0, "coloured": 0.0, "matched": 0.0,
    "late": 0.0, "still": 0.0, "close": 0.0,
}  # fmt: skip
# set of clips → overrides of PLAIN
SETS: dict[str, dict[str, float]] = {
    "ten": {},
    "wide": {"drawings": 1.0},
    "match": {"drawings": 0.6, "matched": 0.5},
    "order": {"drawings": 0.5, "two": 1.0},
    "count": {"drawings": 0.5, "shapes": 0.5, "coloured": 1.0, "several": 2 / 3},
}
ASKED = {
    "ten": ("object", "direction", "sound"), "wide": ("object",), "match": ("match",),
    "order": ("order_seen", "order_heard"), "count": ("colour", "count"),
}  # fmt: skip
HEARD = {
    "sound",
    "match",
    "order_heard",
}  # kinds of question that are repeated without audio; the others, without video
SETTINGS: dict[str, dict[str, bool]] = {"all": {}, "no video": {"video": False}, "no audio": {"audio": False}}
CHANCE = {"ten object": 0.1, "wide object": 1 / 78, "sound": 0.1, "direction": 0.25, "order_seen": 0.5,
          "order_heard": 0.5, "count": 1 / 3, "colour": 1 / 8, "match": 0.5}  # fmt: skip


def make(folder: Path, pictures: PicturePack, sounds: SoundPack, count: int) -> None:
    """Write clips and truth.json, balanced so that each answer is equally often right."""
    folder.mkdir(parents=True, exist_ok=True)
    truth: list[dict[str, Any]] = []
    for number, (name, chances) in enumerate(SETS.items()):
        wanted: Counter[tuple[str, Any]] = Counter()
        seed, made = SEED + 1_000_000 * number, 0
        labels = TEN_SOUNDS if name in ("ten", "order") else tuple(sounds.by_label)
        while made < count:
            seed += 1
            scene = compose(seed, pictures, sounds, labels=labels, seconds=(2.5, 4.5), **{**PLAIN, **chances})
            shares = balance(name, scene, sounds, len(pictures.by_drawing))
            if shares is None or any(wanted[key] >= math.ceil(count / n) for key, n in shares.items()):
                continue
            wanted.update(shares.keys())
            clip = f"{name}{made:04}.mp4"
            if not (folder / clip).is_file():
                frames = render_frames(scene, pictures, round(scene.seconds * FRAMES_PER_SECOND), SIDE)
                write_clip(folder / clip, frames, render_sound(scene, sounds), seconds=scene.seconds)
            truth.append({
                "clip": clip, "set": name, "scene": json.loads(scene.to_json()), "asks": _asks(name, scene, seed)
            })  # fmt: skip
            made += 1
    truth.sort(key=lambda item: (item["clip"][-8:], list(SETS).index(item["set"])))  # interleave sets
    (folder / "truth.json").write_text(json.dumps(truth, indent=1), encoding="utf-8")


def balance(name: str, scene: Scene, sounds: SoundPack, drawings: int) -> dict[tuple[str, Any], int] | None:
    """Properties to balance → their number of values; None: the scene does not fit the set."""
    thing, heard = scene.things[0], scene.sounds[0]
    match name:
        case "ten":
            return {("object", thing.name): 10, ("direction", thing.direction): 4, ("sound", heard.name): 10}
        case "wide":
            return {("object", thing.name): drawings}
        case "match":
            own = sound_of(thing.name)
            if own not in sounds.by_label:
                return None
            return {("verdict", own == heard.name): 2, ("object", thing.name): 10}
        case "count":
            return {("count", thing.count): 3, ("colour", thing.colour): 8}
    return {}


def _asks(name: str, scene: Scene, seed: int) -> dict[str, dict[str, str]]:
    rng = np.random.default_rng(seed)
    asks = {k: ask(scene, k, rng, wording=int(rng.integers(len(WORDINGS[k])))) for k in ASKED[name]}
    return {k: {"question": a.question, "answer": a.answer} for k, a in asks.items()}


def run(folder: Path, out: Path, model: str, device: str | None, settings: list[str], most: int | None) -> None:
    """Ask all questions that `out` has no line for, appending one line each."""
    engine = videollama2.load(model, device=device, fp16_weights=device in (None, "cpu"))
    truth = [t for t in json.loads((folder / "truth.json").read_text(encoding="utf-8")) if number_of(t) < (most or 1e9)]
    done = {(r["clip"], r["setting"], r["kind"]) for r in read(out)} if out.is_file() else set()
    started = time.perf_counter()
    with out.open("a", encoding="utf-8") as file:
        for setting in settings:
            for number, item in enumerate(truth):
                kinds = [k for k in item["asks"] if (setting == "all" or (setting == "no audio") == (k in HEARD))]
                kinds = [k for k in kinds if (item["clip"], setting, k) not in done]
                session = engine.open(str(folder / item["clip"]), **SETTINGS[setting]) if kinds else None
                for kind in kinds:
                    assert session is not None
                    expected = item["asks"][kind]
                    said = session.ask(expected["question"], max_new_tokens=32).text
                    record = {"clip": item["clip"], "setting": setting, "kind": kind, **expected, "said": said}
                    record |= {"set": item["set"], "right": right(kind, said, expected["answer"])}
                    file.write(json.dumps({**record, "truth": _truth(item["scene"], kind)}) + "\n")
                    file.flush()
                if number % 50 == 49:
                    print(f"{setting}: {number + 1} clips, {time.perf_counter() - started:.0f} s", flush=True)


def number_of(item: dict[str, Any]) -> int:
    return int(item["clip"][-8:-4])


def right(kind: str, said: str, expected: str) -> bool:
    ours, theirs = normalise(said), normalise(expected)
    return ours.split()[-1:] == theirs.split()[-1:] if kind == "match" else ours == theirs


def _truth(scene: dict[str, Any], kind: str) -> Any:
    thing = scene["things"][0]
    if kind in ("direction", "colour", "count"):
        return thing[kind]
    return scene["sounds"][0]["name"] if kind in HEARD else thing["name"]


def read(records: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in records.read_text(encoding="utf-8").splitlines()]


def wilson(right: float, n: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's 95 % interval of a share."""
    share, square = right / n, z * z / n
    middle, half = share + square / 2, z * math.sqrt(share * (1 - share) / n + square / 4 / n)
    return (middle - half) / (1 + square), (middle + half) / (1 + square)


def table(records: list[dict[str, Any]]) -> str:
    """Counts, shares and intervals per question and setting, then counts per class."""
    counts: dict[tuple[str, str], list[int]] = {}
    classes: dict[str, dict[str, list[int]]] = {}
    for r in records:
        name = f"{r['set']} object" if r["kind"] == "object" else r["kind"]
        tallies = [counts.setdefault((name, r["setting"]), [0, 0])]
        if r["setting"] == "all":
            tallies.append(classes.setdefault(name, {}).setdefault(str(r["truth"]), [0, 0]))
        for tally in tallies:
            tally[0] += r["right"]
            tally[1] += 1
    lines = [
        f"| {'question':12} | input    | right of asked | share | 95 % interval | chance |",
        "|---|---|---|---|---|---|",
    ]
    for (name, setting), (yes, n) in sorted(counts.items()):
        low, high = wilson(yes, n)
        share = f"{100 * yes / n:5.1f} % | {100 * low:.0f} to {100 * high:.0f} % | {100 * CHANCE[name]:.0f} %"
        lines.append(f"| {name:12} | {setting:8} | {yes:4} of {n:4} | {share} |")
    for name, found in classes.items():
        lines.append(f"\n{name}: " + ", ".join(f"{c} {yes}/{n}" for c, (yes, n) in sorted(found.items())))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    actions = parser.add_subparsers(dest="action", required=True)
    maker = actions.add_parser("make")
    maker.add_argument("folder", type=Path)
    maker.add_argument("--pictures", type=Path, required=True)
    maker.add_argument("--sounds", type=Path, required=True)
    maker.add_argument("--clips", type=int, default=200, help="per set")
    runner = actions.add_parser("run")
    runner.add_argument("folder", type=Path)
    runner.add_argument("--out", type=Path, required=True)
    runner.add_argument("--model", default="nano")
    runner.add_argument("--device")
    runner.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    runner.add_argument("--most", type=int, help="clips of each set")
    shower = actions.add_parser("table")
    shower.add_argument("records", type=Path)
    args = parser.parse_args()
    match args.action:
        case "make":
            make(args.folder, PicturePack.load(args.pictures, "test"), SoundPack.load(args.sounds, "test"), args.clips)
        case "run":
            run(args.folder, args.out, args.model, args.device, args.settings, args.most)
            print(table(read(args.out)))
        case "table":
            print(table(read(args.records)))


if __name__ == "__main__":
    main()
