"""`videollama2 eval report`, `compare` and `export`: actions that need no model."""

import argparse
from pathlib import Path
from typing import Any

from ..errors import UsageError
from . import terminal
from .eval_data import data_folder

_REPORT = """examples:
  videollama2 eval report evals/nano/mvbench                     print the figures and write all reports
  videollama2 eval report evals/nano --html all.html             a folder with one run
  videollama2 eval report evals/nano/mvbench --json | jq .ablations.none.metrics

It writes summary.json, report.md and report.html into the run's folder. The page shows pictures from the media files if
they still exist.
"""
_COMPARE = """examples:
  videollama2 eval compare evals/nano/mvbench evals/tuned/mvbench
  videollama2 eval compare evals/nano evals/tuned --json          all benchmarks that both have

Differences are second - first, on the items that both have.
"""
_EXPORT = """examples:
  videollama2 eval export music-avqa avsd --data D --out tasks
  lmms-eval --model videollama2 --model_args model=2.1-7b-av --include_path tasks --tasks videollama2_music_avqa
  videollama2 eval export probe --data evals/nano/clips --out tasks         after `videollama2 eval probe`

Install lmms-eval and this package in one separate environment. The tasks use our prompts and our strict rules for any
model. Items without media or without a public answer are skipped and counted.
"""


def register(actions: Any) -> None:
    """Add both actions to those of `eval`."""
    report = actions.add_parser(
        "report", help="report a run's figures as Markdown, JSON and HTML", epilog=_REPORT,
        description="Summarise a run and write its reports.",
    )  # fmt: skip
    report.add_argument("run", metavar="RUN", help="folder of a run, or of several")
    report.add_argument("--html", metavar="F", help="path of the page; default: RUN/report.html")
    report.add_argument("--no-pictures", action="store_true", help="don't open media")
    report.add_argument("--json", action="store_true", help="only print the summary as one JSON object")
    report.add_argument("--verbose", "-v", action="store_true", help="log each step")
    report.set_defaults(func=run_report)
    compare = actions.add_parser(
        "compare", help="compare two runs item by item", description="Paired differences of two runs.", epilog=_COMPARE,
    )  # fmt: skip
    compare.add_argument("first", metavar="RUN_A", help="folder of a run, or of several")
    compare.add_argument("second", metavar="RUN_B", help="the same with another model or setting")
    compare.add_argument("--json", action="store_true", help="print one JSON object")
    compare.add_argument("--verbose", "-v", action="store_true", help="log each step")
    compare.set_defaults(func=run_compare)


def register_export(actions: Any) -> None:
    """Add `export`."""
    parser = actions.add_parser(
        "export", help="export benchmarks as lmms-eval tasks", description="Write benchmarks as lmms-eval tasks.",
        epilog=_EXPORT,
    )  # fmt: skip
    parser.add_argument("benchmarks", nargs="+", metavar="BENCHMARK", help="names, as printed by `eval list`")
    parser.add_argument("--data", required=True, metavar="D", help="folder with the files, as for `eval run`")
    parser.add_argument("--out", required=True, metavar="FOLDER", help="where the tasks go")
    parser.add_argument("--setting", default="strict", choices=("strict", "paper"), help="default: strict")
    parser.add_argument("--verbose", "-v", action="store_true", help="log each step")

    def run_export(args: argparse.Namespace) -> int:
        from ..evals import lmms_tasks
        from ..evals.registry import benchmark

        terminal.log_to_terminal(args.verbose)
        chosen = [benchmark(name) for name in dict.fromkeys(args.benchmarks)]
        for each in chosen:
            folder = data_folder(Path(args.data), each.name, alone=len(chosen) == 1)
            task, skipped = lmms_tasks.export(each, folder, Path(args.out), args.setting)
            print(terminal.harmless(f"{task}{f'; {skipped} items skipped' if skipped else ''}"))
        return 0

    parser.set_defaults(func=run_export)


def runs(folder: Path) -> dict[str, Path]:
    """The runs in a folder by benchmark: the folder itself, or those right inside it.

    Raises:
        UsageError: no run found. DataError: a manifest can't be read.
    """
    from ..evals.manifest import FILE, read_manifest

    places = [folder] if (folder / FILE).is_file() else sorted(path.parent for path in folder.glob(f"*/{FILE}"))
    if not places:
        raise UsageError(f"{folder} holds no run: no {FILE} in it or one folder below.")
    return {str(read_manifest(place)["run"].get("benchmark")): place for place in places}


def run_report(args: argparse.Namespace) -> int:
    """Print the figures, and write summary.json, report.md and the page."""
    terminal.log_to_terminal(args.verbose)
    from ..evals.registry import benchmark

    found = runs(Path(args.run))
    if args.html is not None and len(found) > 1:
        raise UsageError(f"--html is one page, but {args.run} holds {len(found)} runs; give the folder of one run.")
    summaries = {}
    for name, place in found.items():
        with terminal.progress(args.json) as on_stage:
            on_stage(f"summarising {name}")
            summaries[name], text = _report(benchmark(name), place, args)
        if not args.json:
            print(terminal.harmless(text), end="")
    if args.json:
        terminal.print_json(next(iter(summaries.values())) if len(summaries) == 1 else summaries)
    return 0


def _report(benchmark: Any, place: Path, args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    from ..evals.journal import read_results
    from ..evals.manifest import read_manifest
    from ..evals.report.rendering import markdown, page
    from ..evals.report.summary import summary
    from ..evals.report.thumbnails import Thumbnails
    from ..evals.run import SUMMARY
    from ..jobs import write_json
    from ..media.worker import WorkerPool
    from ..storage import write_whole

    results, manifest = read_results(place), read_manifest(place)
    found = summary(results, benchmark, manifest, **judgements_of(place))
    text = markdown(found)
    if args.json:
        return found, text
    root = manifest.get("data")
    html = Path(args.html) if args.html is not None else place / "report.html"
    write_json(place / SUMMARY, found)
    write_whole(place / "report.md", text.encode("utf-8", "replace"))
    # in a worker, because media that crashed a decoder are among those opened here
    with WorkerPool(workers=1) as media:
        pictures = Thumbnails(Path(root) if isinstance(root, str) else None, media.open_clip)
        write_whole(html, page(found, results, None if args.no_pictures else pictures).encode("utf-8", "replace"))
    terminal.say(f"page: {html}")
    return found, text


def judgements_of(place: Path) -> dict[str, Any]:
    """Judges' verdicts about a run, as arguments of `report.summary`; none if it was not judged."""
    from ..evals.judge.judgements import PROBES, read_judgements

    return {"judgements": read_judgements(place), "probes": read_judgements(place, PROBES)}


def run_compare(args: argparse.Namespace) -> int:
    """Print the differences for each benchmark that both have."""
    terminal.log_to_terminal(args.verbose)
    from ..evals.registry import benchmark
    from ..evals.report.compare import ComparedRun, compare
    from ..evals.report.rendering import compared_markdown

    first, second = runs(Path(args.first)), runs(Path(args.second))
    shared = [name for name in first if name in second]
    if not shared:
        raise UsageError(
            f"{args.first} has {', '.join(first)}, {args.second} has {', '.join(second)}; expected a benchmark in both."
        )
    alone = [name for name in [*first, *second] if name not in shared]
    if alone:
        terminal.say(f"skipped, because only one side has it: {', '.join(alone)}")
    found = [compare(ComparedRun.read(first[name]), ComparedRun.read(second[name]), benchmark(name)) for name in shared]
    if args.json:
        terminal.print_json(found[0] if len(found) == 1 else found)
    else:
        print(terminal.harmless("\n".join(map(compared_markdown, found))), end="")
    return 0
