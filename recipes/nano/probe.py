"""Refresh all of nano's published results on the probe:

    python recipes/nano/probe.py --packs PACKS  # card, docs/status.md and the small probe of the tests
    python recipes/nano/probe.py --small        # only what tests/evals/test_nano_probe.py compares with

PACKS holds pictures.npz and sounds.npz (README.md here), whose held-out split is used. The run is kept in --out, where
an interrupted one resumes and `videollama2 eval report` shows it. The small probe needs no packs: the package draws and
synthesises it.
"""

import argparse
import json
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import videollama2
from videollama2 import cli
from videollama2.engine import Engine
from videollama2.evals import probe
from videollama2.evals.benchmarks.probe import BENCHMARKS
from videollama2.evals.items import Result
from videollama2.evals.journal import read_results
from videollama2.evals.manifest import read_manifest
from videollama2.evals.report.summary import guessing, summary
from videollama2.evals.report.wording import ABLATED, interval, number
from videollama2.evals.run import evaluate

ROOT = Path(__file__).resolve().parents[2]
CARD, STATUS = ROOT / "src" / "videollama2" / "nano" / "MODEL_CARD.md", ROOT / "docs" / "status.md"
EXPECTED = ROOT / "tests" / "evals" / "nano_probe.json"
BEGIN, END = "<!-- probe: written by recipes/nano/probe.py -->", "<!-- /probe -->"
SMALL_CLIPS, SMALL_SEED = 1, 7
SMALL_ITEMS = 5  # of nine per way of asking, to be quick on two cores
TOLERANCE = {"same_reading": 0.7, "right": 2}
WAYS = {"probe": "with options", "probe-open": "openly"}


def small(engine: Engine, folder: Path) -> dict[str, dict[str, Any]]:
    """Run the small probe: {benchmark: {right: number, read: the answer read from each reply}}."""
    probe.make(folder / "probe", probe.built_in(), clips=SMALL_CLIPS, seed=SMALL_SEED)
    found = {}
    for benchmark in BENCHMARKS:
        results = evaluate(engine, benchmark, folder / "probe", folder / "out", limit=SMALL_ITEMS).results
        read = {result.id: result.read or result.outcome.value for result in results}
        found[benchmark.name] = {"right": sum(r.outcome.value == "right" for r in results), "read": read}
    return found


def refresh_small(model: str) -> None:
    """Write the results that the tests expect."""
    with tempfile.TemporaryDirectory() as folder:
        found = small(videollama2.load(model, device="cpu", dtype="float32"), Path(folder))
    EXPECTED.write_text(json.dumps({"tolerance": TOLERANCE, **found}, indent=1) + "\n", encoding="utf-8")
    print(f"{EXPECTED}: " + ", ".join(f"{name} {one['right']} of {len(one['read'])}" for name, one in found.items()))


def summed(run: Path) -> tuple[dict[str, Any], list[Result]]:
    """A run's summary and results."""
    name = read_manifest(run)["run"]["benchmark"]
    benchmark = next(each for each in BENCHMARKS if each.name == name)
    results = read_results(run)
    return summary(results, benchmark, read_manifest(run)), results


def card(out: Path) -> str:
    """The card's section: a table per way of asking, with tasks as rows and ablations as columns."""
    parts = []
    for name, way in WAYS.items():
        told, results = summed(out / name)
        columns = told["ablations"]
        first = [result for result in results if result.ablation == "none"]
        rows = [_row("all", len(first), columns, guessing(first), lambda column: column["metrics"]["accuracy"])]
        for task in dict.fromkeys(result.categories["task"] for result in first):
            of_task = [result for result in first if result.categories["task"] == task]
            rows.append(
                _row(task, len(of_task), columns, guessing(of_task),
                     lambda column, task=task: column["categories"]["task"][task]["main"])
            )  # fmt: skip
        counted = ", ".join(f"{count} {outcome}" for outcome, count in columns["none"]["outcomes"].items())
        heads = ["task", "items", *(ABLATED[column] for column in columns), "guessing"]
        lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads), *rows]
        leaks = [f"**Text alone is better than guessing** in {leak['value'] or 'the whole'}." for leak in told["leaks"]]
        parts.append("\n".join([f"Asked {way} ({counted}), right in %, 95 % interval:", "", *lines, *leaks]))
    notes = "; ".join(note for note in told["coverage"]["notes"] if "sounds" in note)
    return "\n\n".join([f"`videollama2 eval probe`; {notes}.", *parts])


def _row(task: str, items: int, columns: Mapping[str, Any], guess: float | None, figure_of: Any) -> str:
    cells = []
    for column in columns.values():
        figure = figure_of(column)
        cells.append(f"{number('', figure['value'])} ({interval('', figure)})")
    return f"| {task} | {items} | " + " | ".join([*cells, number("", guess)]) + " |"


def line(out: Path) -> str:
    """The sentence in docs/status.md."""
    said = []
    for name, way in WAYS.items():
        told, results = summed(out / name)
        columns = told["ablations"]
        value = {a: number("", column["metrics"]["accuracy"]["value"]) for a, column in columns.items()}
        alone = f", text alone {value['text-only']} %" if "text-only" in value else ""
        items = [result for result in results if result.ablation == "none"]
        said.append(f"{way} {value['none']} % (guessing {number('', guessing(items))} %{alone})")
    return f"on the probe, nine tasks in {len(items)} clips: {'; '.join(said)}"


def write_between(path: Path, text: str) -> None:
    """Replace what stands between the two marks of a file.

    Raises:
        SystemExit: it has no such marks.
    """
    before = path.read_text(encoding="utf-8")
    after, count = re.subn(re.escape(BEGIN) + ".*?" + re.escape(END), lambda _: BEGIN + text + END, before, flags=re.S)
    if count != 1:
        sys.exit(f"{path} has {count} places between {BEGIN} and {END}; expected one")
    path.write_text(after, encoding="utf-8")
    print(f"{path}: written")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packs", type=Path, help="folder with pictures.npz and sounds.npz")
    parser.add_argument("--small", action="store_true", help="only the small probe")
    parser.add_argument("--model", default="nano")
    parser.add_argument("--out", type=Path, default=Path("evals/nano"))
    parser.add_argument("--clips", type=int, default=probe.CLIPS, help="of each task")
    parser.add_argument("--ablate", default="audio,video,text-only", help="as of `videollama2 eval probe`")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--batch", type=int, default=1)
    args = parser.parse_args(argv)
    if not args.small:
        if args.packs is None:
            parser.error("the whole probe needs --packs; --small refreshes the rest alone")
        asked = ["--packs", args.packs, "--model", args.model, "--out", args.out, "--clips", args.clips]
        asked += ["--device", args.device, "--batch", args.batch]
        asked += ["--ablate", args.ablate]
        if code := cli.main(["eval", "probe", *map(str, asked)]):
            sys.exit(code)
        write_between(CARD, f"\n{card(args.out)}\n")
        write_between(STATUS, line(args.out))
    refresh_small(args.model)


if __name__ == "__main__":
    main()
