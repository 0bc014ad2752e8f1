"""`videollama2 eval report RUN` and `videollama2 eval compare RUN_A RUN_B`: from results that are there."""

import argparse
from pathlib import Path
from typing import Any

from ..errors import UsageError
from . import terminal

_REPORT = """examples:
  videollama2 eval report evals/nano/mvbench                     prints the figures, writes all of it
  videollama2 eval report evals/nano --html all.html             of a folder with one run
  videollama2 eval report evals/nano/mvbench --json | jq .ablations.none.metrics

It writes summary.json, report.md and report.html into the run's folder. Pictures in the page come from the media,
where they still are; where not, the page says so.
"""
_COMPARE = """examples:
  videollama2 eval compare evals/nano/mvbench evals/tuned/mvbench
  videollama2 eval compare evals/nano evals/tuned --json          every benchmark that both have

Differences are second - first, on the items that are the same in both.
"""


def register(actions: Any) -> None:
    """Add both actions to those of `eval`."""
    raw = argparse.RawDescriptionHelpFormatter
    report = actions.add_parser(
        "report", help="a run's figures as Markdown, JSON and a page",
        description="Sum up a run again, and write its report.", epilog=_REPORT, formatter_class=raw,
    )  # fmt: skip
    report.add_argument("run", metavar="RUN", help="folder of a run, or of several")
    report.add_argument("--html", metavar="F", help="where the page goes; default: RUN/report.html")
    report.add_argument("--no-pictures", action="store_true", help="open no media")
    report.add_argument("--json", action="store_true", help="print the summary as one JSON object; write nothing")
    report.add_argument("--verbose", "-v", action="store_true", help="say what is done")
    report.set_defaults(func=run_report)
    compare = actions.add_parser(
        "compare", help="two runs, item by item", description="Paired differences of two runs.", epilog=_COMPARE,
        formatter_class=raw,
    )  # fmt: skip
    compare.add_argument("first", metavar="RUN_A", help="folder of a run, or of several")
    compare.add_argument("second", metavar="RUN_B", help="the same, of another model or setting")
    compare.add_argument("--json", action="store_true", help="print one JSON object")
    compare.add_argument("--verbose", "-v", action="store_true", help="say what is done")
    compare.set_defaults(func=run_compare)


def runs(folder: Path) -> dict[str, Path]:
    """The runs in a folder, by benchmark: itself, or those right inside it.

    Raises:
        UsageError: there are none. DataError: a manifest can't be read.
    """
    from ..evals.manifest import FILE, read_manifest

    places = [folder] if (folder / FILE).is_file() else sorted(path.parent for path in folder.glob(f"*/{FILE}"))
    if not places:
        raise UsageError(f"{folder} holds no run: no {FILE}, neither there nor one folder below")
    return {str(read_manifest(place)["run"].get("benchmark")): place for place in places}


def run_report(args: argparse.Namespace) -> int:
    """Print the figures; write summary.json, report.md and the page."""
    terminal.log_to_terminal(args.verbose)
    from ..evals.registry import benchmark

    found = runs(Path(args.run))
    if args.html is not None and len(found) > 1:
        raise UsageError(f"--html names one page, and {args.run} holds {len(found)} runs; name one of them")
    summaries = {}
    for name, place in found.items():
        with terminal.progress(args.json) as on_stage:
            on_stage(f"summing up {name}")
            summaries[name], text = _report(benchmark(name), place, args)
        if not args.json:
            print(terminal.harmless(text), end="")
    if args.json:
        terminal.write_json(next(iter(summaries.values())) if len(summaries) == 1 else summaries)
    return 0


def _report(benchmark: Any, place: Path, args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    from ..evals.html import page
    from ..evals.journal import read_results
    from ..evals.manifest import read_manifest
    from ..evals.markdown import markdown
    from ..evals.report import summary
    from ..evals.run import SUMMARY
    from ..evals.thumbnails import Thumbnails
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
    # what made the model's decoder fail is among the media that are opened here
    with WorkerPool(workers=1) as media:
        pictures = Thumbnails(Path(root) if isinstance(root, str) else None, media.open_clip)
        write_whole(html, page(found, results, None if args.no_pictures else pictures).encode("utf-8", "replace"))
    terminal.say(f"page: {html}")
    return found, text


def judgements_of(place: Path) -> dict[str, Any]:
    """What judges said of a run, as arguments of `report.summary`; nothing where it was not judged."""
    from ..evals.judge.judgements import PROBES, read_judgements

    return {"judgements": read_judgements(place), "probes": read_judgements(place, PROBES)}


def run_compare(args: argparse.Namespace) -> int:
    """Print the differences of each benchmark that both have."""
    terminal.log_to_terminal(args.verbose)
    from ..evals.compare import Side, compare, compared_markdown
    from ..evals.registry import benchmark

    first, second = runs(Path(args.first)), runs(Path(args.second))
    shared = [name for name in first if name in second]
    if not shared:
        raise UsageError(
            f"{args.first} has {', '.join(first)}, {args.second} has {', '.join(second)}; give runs of one benchmark"
        )
    alone = [name for name in [*first, *second] if name not in shared]
    if alone:
        terminal.say(f"only one of them has {', '.join(alone)}")
    found = [compare(Side.read(first[name]), Side.read(second[name]), benchmark(name)) for name in shared]
    if args.json:
        terminal.write_json(found[0] if len(found) == 1 else found)
    else:
        print(terminal.harmless("\n".join(map(compared_markdown, found))), end="")
    return 0
