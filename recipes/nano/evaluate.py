"""Measure nano on clips that it never saw: real mp4 files, the ordinary engine, free answers.

    python recipes/nano/evaluate.py make --pictures pictures.npz --sounds sounds.npz --clips 200 CLIPS
    python recipes/nano/evaluate.py run CLIPS --out nano.json [--model nano] [--device cpu] [--first 0 --last 200]

Each clip shows one held-out photo (ten classes, equally likely) that moves in one of four directions while one held-out
recording is heard (ten classes). Three questions are asked with everything on; then what is shown and where it goes
again without pictures, and what is heard without sound. An answer counts when it equals the truth up to case,
punctuation and articles.
"""

import argparse
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

import videollama2
from videollama2.data.compose import Pictures, Scene, Sounds, compose, render_frames, render_sound, write_clip
from videollama2.data.questions import WORDINGS, ask, normalise

SEED, SIDE, FRAMES_PER_SECOND = 77_000, 224, 10
KINDS = ("object", "direction", "sound")
SETTINGS: dict[str, tuple[dict[str, bool], tuple[str, ...]]] = {
    "all": ({}, KINDS),
    "no video": ({"video": False}, ("object", "direction")),
    "no audio": ({"audio": False}, ("sound",)),
}


def make(folder: Path, pictures: Pictures, sounds: Sounds, count: int) -> None:
    """Write clips and truth.json. Classes, directions and sounds take turns, so that each occurs equally often."""
    folder.mkdir(parents=True, exist_ok=True)
    truth: list[dict[str, Any]] = []
    seed = SEED
    wanted: Counter[tuple[str, str]] = Counter()
    names, moves, heard = set(), set(), set()
    while len(truth) < count:
        seed += 1
        scene = compose(seed, pictures, sounds, stamps=0, two=0, still=0, close=0, seconds=(3.0, 6.0))
        key = (
            ("object", scene.things[0].name),
            ("direction", scene.things[0].direction),
            ("sound", scene.sounds[0].name),
        )
        shares = (10, 4, 10)
        if any(wanted[k] >= -(-count // n) for k, n in zip(key, shares, strict=True)):
            continue
        wanted.update(key)
        names.add(key[0]), moves.add(key[1]), heard.add(key[2])
        name = f"clip{len(truth):04}.mp4"
        frames = render_frames(scene, pictures, round(scene.seconds * FRAMES_PER_SECOND), SIDE)
        write_clip(folder / name, frames, render_sound(scene, sounds), seconds=scene.seconds)
        truth.append({"clip": name, "scene": json.loads(scene.to_json()), "asks": _asks(scene, seed)})
    (folder / "truth.json").write_text(json.dumps(truth, indent=1), encoding="utf-8")
    print(
        f"{len(truth)} clips; {len(names)} classes of pictures, {len(moves)} directions, {len(heard)} classes of sound"
    )


def _asks(scene: Scene, seed: int) -> dict[str, dict[str, str]]:
    rng = np.random.default_rng(seed)
    asks = {k: ask(scene, k, rng, wording=int(rng.integers(len(WORDINGS[k])))) for k in KINDS}
    return {k: {"question": a.question, "answer": a.answer} for k, a in asks.items()}


def run(
    folder: Path, out: Path, model: str, device: str | None, settings: list[str], first: int, last: int | None
) -> list[dict[str, Any]]:
    """One record per question asked; written to `out` every ten clips."""
    engine = videollama2.load(model, device=device)
    truth = json.loads((folder / "truth.json").read_text(encoding="utf-8"))[first:last]
    records = []
    started = time.perf_counter()
    for number, item in enumerate(truth):
        for setting in settings:
            options, kinds = SETTINGS[setting]
            session = engine.open(str(folder / item["clip"]), max_new_tokens=32, **options)
            for kind in kinds:
                expected = item["asks"][kind]
                answer = session.ask(expected["question"])
                right = normalise(answer.text) == normalise(expected["answer"])
                records.append({
                    "clip": item["clip"], "setting": setting, "kind": kind, **expected, "said": answer.text,
                    "right": right, "answer_class": _truth_class(item["scene"], kind),
                })  # fmt: skip
        if number % 10 == 9:
            rate = (time.perf_counter() - started) / (number + 1)
            print(f"{number + 1} of {len(truth)} clips, {rate:.1f} s each", flush=True)
            write(out, records)
    write(out, records)
    return records


def write(out: Path, records: list[dict[str, Any]]) -> None:
    out.write_text(json.dumps({"summary": summary(records), "records": records}, indent=1), encoding="utf-8")


def _truth_class(scene: dict[str, Any], kind: str) -> str:
    thing = scene["things"][0]
    return {"object": thing["name"], "direction": thing["direction"], "sound": scene["sounds"][0]["name"]}[kind]


def summary(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Counts per kind and setting, and per class where everything is on."""
    total: dict[str, list[int]] = {}
    classes: dict[str, dict[str, list[int]]] = {k: {} for k in KINDS}
    for r in records:
        for table, key in ((total, f"{r['kind']}, {r['setting']}"), (classes[r["kind"]], r["answer_class"])):
            if table is total or r["setting"] == "all":
                count = table.setdefault(key, [0, 0])
                count[0] += r["right"]
                count[1] += 1
    return {"total": total, "classes": classes}


def table(found: dict[str, Any]) -> str:
    lines = [f"{'question, input':24} {'right':>6} {'asked':>6} {'share':>7}"]
    lines += [f"{k:24} {right:6} {n:6} {100 * right / n:6.1f} %" for k, (right, n) in found["total"].items()]
    for kind, classes in found["classes"].items():
        lines.append(f"{kind}: " + ", ".join(f"{c} {right}/{n}" for c, (right, n) in sorted(classes.items())))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    actions = parser.add_subparsers(dest="action", required=True)
    maker = actions.add_parser("make")
    maker.add_argument("folder", type=Path)
    maker.add_argument("--pictures", type=Path, required=True)
    maker.add_argument("--sounds", type=Path, required=True)
    maker.add_argument("--clips", type=int, default=200)
    runner = actions.add_parser("run")
    runner.add_argument("folder", type=Path)
    runner.add_argument("--out", type=Path, required=True)
    runner.add_argument("--model", default="nano")
    runner.add_argument("--device")
    runner.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    runner.add_argument("--first", type=int, default=0)
    runner.add_argument("--last", type=int)
    args = parser.parse_args()
    if args.action == "make":
        make(args.folder, Pictures.load(args.pictures, "test"), Sounds.load(args.sounds, "test"), args.clips)
        return
    print(table(summary(run(args.folder, args.out, args.model, args.device, args.settings, args.first, args.last))))


if __name__ == "__main__":
    main()
