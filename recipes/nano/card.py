"""Write what was measured into nano's card, README.md and docs/status.md, between marks.

    python recipes/nano/card.py ask CONTENTS.json --out real.jsonl [--model nano]
    python recipes/nano/card.py write [--real real.jsonl] [--photographs records.jsonl] [--sounds records.jsonl] \\
        [--clips answers.jsonl]

CONTENTS.json: {file: what it shows}. `--photographs` takes the records of evaluate_photographs.py, `--sounds` those of
evaluate_sounds.py, `--clips` those of evaluate.py. The table of shipped files is always written; probe.py writes the
results on the probe.
"""

import argparse
import hashlib
import json
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import evaluate
import evaluate_photographs
import evaluate_sounds
from evaluate_photographs import read

import videollama2
from videollama2.weights.nano import ADAPTERS
from videollama2.weights.nano_cache import SHIPPED

CARD, ROOT = SHIPPED / "MODEL_CARD.md", Path(__file__).resolve().parents[2]
README, STATUS = ROOT / "README.md", ROOT / "docs" / "status.md"
TARGETS = {
    "ten object": 85,
    "direction": 95,
    "count": 90,
    "order_seen": 90,
    "wide object": 45,
    "colour": 80,
    "match": 75,
}
LABELS = {
    "ten object": "what is shown, photos of ten classes",
    "wide object": "what is shown, drawings of 78 things by an artist that training never saw",
    "direction": "where it moves (4)", "sound": "what is heard (10 classes)",
    "order_seen": "which of two is shown first", "order_heard": "which of two is heard first",
    "count": "how many (1 to 3)", "match": "does the sound belong to the picture", "colour": "which of eight colours",
}  # fmt: skip
ASKED = {"seen": "What do you see and hear?", "caption": "Describe the video."}


def ask(contents: Path, out: Path, model: str) -> None:
    """Every file's answers to both questions."""
    engine = videollama2.load(model, device="cpu", dtype="float32")
    with out.open("w", encoding="utf-8") as records:
        for name, content in json.loads(contents.read_text(encoding="utf-8")).items():
            replies = {key: engine.answer(name, question, max_new_tokens=48).text for key, question in ASKED.items()}
            records.write(json.dumps({"file": Path(name).name, "content": content, **replies}) + "\n")


def real(records: list[dict[str, Any]]) -> str:
    lines = [f"| file | content | “{ASKED['seen']}” | “{ASKED['caption']}” |", "|---|---|---|---|"]
    return "\n".join([*lines, *(f"| `{r['file']}` | {r['content']} | {r['seen']} | {r['caption']} |" for r in records)])


def clips(records: list[dict[str, Any]]) -> str:
    """The main table and the classes' counts, from evaluate.py's records."""
    counts: Counter[tuple[str, bool, bool]] = Counter()
    for r in records:
        name = f"{r['set']} object" if r["kind"] == "object" else r["kind"]
        counts[name, r["setting"] == "all", bool(r["right"])] += 1
    lines = ["| question | everything on | that modality removed | chance | target |", "|---|---|---|---|---|"]
    for name, label in LABELS.items():
        cells = []
        for whole in (True, False):
            yes = counts[name, whole, True]
            n = yes + counts[name, whole, False]
            low, high = evaluate.wilson(yes, n) if n else (0.0, 0.0)
            cells.append(f"{yes} of {n} ({100 * yes / n:.1f} %; {100 * low:.0f}–{100 * high:.0f})" if n else "–")
        target = f"≥ {TARGETS[name]} %" if name in TARGETS else "–"
        lines.append(f"| {label} | {' | '.join(cells)} | {100 * evaluate.CHANCE[name]:.0f} % | {target} |")
    return "\n".join(lines)


def readme(records: list[dict[str, Any]]) -> str:
    """What nano names, in a sentence."""
    found = [r for r in records if r["kind"] == "open"]
    right = sum(r["right"] for r in found)
    low, high = evaluate.wilson(right, len(found))
    return (
        f"It names a thousand kinds of things: {right} of {len(found)} photographs that nothing was trained on\n"
        f"({100 * right / len(found):.0f} %; {100 * low:.0f} to {100 * high:.0f})."
    )


def files() -> str:
    """Size and sha256 of every shipped weight file."""
    lines = ["| file | MB | sha256 |", "|---|---|---|"]
    paths = sorted(SHIPPED.glob("*.safetensors"), key=lambda path: (path.name == ADAPTERS, path.name))
    for path in [*paths, SHIPPED / "tokenizer.json"]:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        lines.append(f"| `{path.name}` | {path.stat().st_size / 1e6:.1f} | `{digest}` |")
    return "\n".join(lines)


def write_between(path: Path, name: str, text: str) -> None:
    """Replace what stands between a file's marks of this name.

    Raises:
        SystemExit: it has no such marks.
    """
    begin, end = f"<!-- {name}: written by recipes/nano/card.py -->", f"<!-- /{name} -->"
    before = path.read_text(encoding="utf-8")
    pattern = re.escape(begin) + ".*?" + re.escape(end)
    after, count = re.subn(pattern, lambda _: f"{begin}\n{text}\n{end}", before, flags=re.S)
    if count != 1:
        sys.exit(f"{path} has {count} places between {begin} and {end}; expected one")
    path.write_text(after, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    actions = parser.add_subparsers(dest="action", required=True)
    asker = actions.add_parser("ask")
    asker.add_argument("contents", type=Path)
    asker.add_argument("--out", type=Path, required=True)
    asker.add_argument("--model", default="nano")
    writer = actions.add_parser("write")
    for name in ("real", "photographs", "sounds", "clips"):
        writer.add_argument(f"--{name}", type=Path)
    args = parser.parse_args()
    if args.action == "ask":
        ask(args.contents, args.out, args.model)
        return
    write_between(CARD, "files", files())
    tables = {
        "real": real, "photographs": evaluate_photographs.table, "sounds": evaluate_sounds.table, "clips": clips,
    }  # fmt: skip
    for name, table in tables.items():
        if (records := getattr(args, name)) is not None:
            for page in (CARD, STATUS) if name != "real" else (CARD,):
                write_between(page, name, table(read(records)))
    if args.photographs is not None:
        write_between(README, "nano", readme(read(args.photographs)))


if __name__ == "__main__":
    main()
