"""`videollama2 eval BENCHMARK…`: ask a model every question of benchmarks, and count what becomes of each."""

import argparse
import contextlib
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DataError
from . import eval_export, eval_judge, eval_probe, eval_report, terminal

_EPILOG = """examples:
  videollama2 eval list                                          what there is, and which files each is read from
  videollama2 eval mvbench --model 2.1-7b-av --data benchmarks   benchmarks/mvbench, or benchmarks itself
  videollama2 eval avqa music-avqa --data D --ablate audio,video,text-only
  videollama2 eval mvbench --data D --limit 100 --batch 8
  videollama2 eval probe --model nano                            offline: clips that are made for it
  videollama2 eval report evals/2.1-7b-av/mvbench                Markdown, JSON and a page
  videollama2 eval compare evals/nano evals/2.1-7b-av            paired differences
  torchrun --nproc-per-node 8 -m videollama2 eval video-mme --data D

Each benchmark has its folder in --out; started again with the same words, a run that was stopped goes on where it was.
Items whose media are missing, or whose asking fails, are Failed: they stay in the results and never score.
"""
if TYPE_CHECKING:
    from ..evals.items import Result

_RUN, _LIST = "run", "list"


def register(commands: Any) -> None:
    """Add the command, its actions and their flags."""
    parser = commands.add_parser(
        "eval", help="benchmarks, with figures that can be repeated", description="Measure a model on benchmarks.",
        epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.default_action = _RUN
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    _register_run(actions)
    eval_probe.register(actions, _add_flags, out_folder, run)
    eval_report.register(actions)
    listing = actions.add_parser(_LIST, help="the benchmarks, and the files each is read from")
    listing.add_argument("benchmarks", nargs="*", metavar="BENCHMARK", help="these only")
    listing.add_argument("--data", metavar="D", help="say which of the files are there")
    listing.add_argument("--json", action="store_true", help="print one JSON object")
    listing.set_defaults(func=show)
    eval_judge.register(actions)
    eval_export.register(actions, data_folder)


def _register_run(actions: Any) -> None:
    parser = actions.add_parser(
        _RUN, help="ask (the word may be left out)", description="Ask a model every question of benchmarks.",
        epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("benchmarks", nargs="+", metavar="BENCHMARK", help="names, as `eval list` has them")
    parser.add_argument(
        "--data", required=True, metavar="D", help="folder with the benchmark's files, or with one folder for each"
    )
    _add_flags(parser)
    parser.set_defaults(func=run)


def _add_flags(parser: argparse.ArgumentParser) -> None:
    """How is asked, and where results go."""
    add = parser.add_argument
    add("--out", metavar="FOLDER", help="where results go; default: evals/MODEL")
    add("--setting", default="strict", choices=("strict", "paper"),
        help="strict (default): what can't be read never scores; paper: all as published")  # fmt: skip
    add("--ablate", default="", metavar="A,…", help="ask again without: audio, video, text-only (neither)")
    add("--limit", type=int, metavar="N", help="ask N items only, spread evenly")
    add("--batch", type=int, default=1, metavar="N", help="items that are asked together; default: 1")
    add("--shard", metavar="K/N", help="ask the share K of N (0/2, 1/2); default: what torchrun says")
    add("--threads", type=int, metavar="N", help="turns on their way at once, so that media are decoded while one is "
        "answered; default: 2, on a CPU 1")  # fmt: skip
    add("--protocol", metavar="P", help="how media are prepared; default: the model's own, or the setting's")
    add("--frames", type=int, metavar="N", help="frames of a video; default: the model's own number")
    add("--timeout", type=float, default=120.0, metavar="S", help="seconds that decoding one medium may take; default: "
        "120")  # fmt: skip
    add("--memory", type=int, default=4096, metavar="MIB", help="memory that decoding it may take; default: 4096")
    add("--retry-failed", action="store_true", help="ask items again that failed before")
    add("--quiet", "-q", action="store_true", help="no progress")
    add("--json", action="store_true", help="print the summaries as one JSON object")
    terminal.add_model_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Evaluate, benchmark by benchmark; print each one's figures."""
    from ..device import find, own
    from ..evals.loop import ablations_of
    from ..evals.markdown import brief
    from ..evals.registry import benchmark
    from ..evals.run import check_numbers, evaluate, media_options_for
    from ..jobs import parse_share, share_from_environment
    from ..media.clip_cache import ClipCache
    from ..media.worker import WorkerLimits, WorkerPool

    terminal.log_to_terminal(args.verbose)
    chosen = [benchmark(name) for name in dict.fromkeys(args.benchmarks)]
    rank, world = share_from_environment() if args.shard is None else parse_share(args.shard)
    ablations = ablations_of(["none", *filter(None, args.ablate.split(","))])
    folders = [data_folder(Path(args.data), b.name, alone=len(chosen) == 1) for b in chosen]
    limits = WorkerLimits(seconds=args.timeout, cpu_seconds=8 * args.timeout, memory_mb=args.memory)
    prepared = [media_options_for(each, args.setting, protocol=args.protocol, frames=args.frames) for each in chosen]
    out = out_folder(args)
    if args.threads is None:  # a CPU that is busy with one turn is only kept from it by another
        args.threads = 1 if find(args.device).type == "cpu" else 2
    if "LOCAL_RANK" in os.environ and ":" not in args.device:
        args.device = str(own(find(args.device)))
    check_numbers(limit=args.limit, batch=args.batch, rank=rank, world=world, threads=args.threads)
    for each, folder in zip(chosen, folders, strict=True):  # what is wrong with files is said before a model is loaded
        each.load(folder, args.setting)
    with terminal.progress(args.quiet or args.json) as on_stage:
        engine = terminal.load_engine(args, on_stage, isolate=WorkerPool(workers=args.threads, worker_limits=limits))
    engine.opener = ClipCache(engine.opener)  # benchmarks ask several questions about a clip, one after the other
    summaries = {}
    for each, folder, options in zip(chosen, folders, prepared, strict=True):
        with (
            _progress(each.name, quiet=args.quiet or args.json) as told,
            _kept(out / each.name),
            terminal.without_losses(args.verbose),
        ):
            done = evaluate(
                engine, each, folder, out, setting=args.setting, ablations=ablations, limit=args.limit,
                batch=args.batch, media_options=options, rank=rank, world=world, threads=args.threads,
                retry=args.retry_failed, on_progress=told,
            )  # fmt: skip
        summaries[each.name] = dict(done.summary)
        if done.left:
            terminal.say(f"{each.name}: this share is done; {done.left} items of other shares are left")
        elif not args.json:
            print(terminal.harmless(brief(done.summary)))
            terminal.say(f"results: {done.folder}")
    if args.json:
        terminal.write_json(summaries)
    return 0


def out_folder(args: argparse.Namespace) -> Path:
    """--out, or evals/ with the model's name."""
    return Path(args.out or Path("evals") / re.sub(r"[^\w.-]+", "-", args.model).strip("-."))


def show(args: argparse.Namespace) -> int:
    """Name, title and kind of each benchmark, and what is expected where."""
    from ..evals.registry import benchmark, benchmarks

    chosen = [benchmark(name) for name in args.benchmarks] or list(benchmarks().values())
    listed = [described(each, None if args.data is None else Path(args.data)) for each in chosen]
    if args.json:
        terminal.write_json(listed)
        return 0
    for each in listed:
        print(terminal.harmless(f"{each['name']:<16} {each['title']} · {each['kind']} · {each['metric']}"))
        print(terminal.harmless(f"{'':<16} {each['source']}"))
        for need in each["needs"]:
            there = "" if need["there"] is None else "there  " if need["there"] else "not there  "
            optional = "" if need["required"] else " (optional)"
            print(terminal.harmless(f"{'':<18} {there}{need['path']}: {need['what']}{optional}"))
    return 0


def described(benchmark: Any, data: Path | None) -> dict[str, Any]:
    """A benchmark as plain data; `there` says of each file whether it is below `data`."""
    folder = None if data is None else data_folder(data, benchmark.name, alone=True)
    needs = [
        {
            "path": need.path, "what": need.what, "required": need.required,
            "there": None if folder is None else _there(folder, need.path),
        }
        for need in benchmark.needs
    ]  # fmt: skip
    told = {name: getattr(benchmark, name) for name in ("name", "title", "kind", "metric", "source")}
    return {**told, "needs": needs}


def _there(folder: Path, path: str) -> bool:
    """Whether files exist that are named with globs and <placeholders>, with "+" between those that go together."""
    globs = re.sub(r"(<[^>]*>)+", "*", path)  # one star of several: "**" may only be a whole part
    patterns = [[each.strip(" /") for each in way.split(" + ")] for way in globs.split(" or ")]
    return any(all(any(folder.glob(each)) for each in way) for way in patterns)


def data_folder(data: Path, name: str, *, alone: bool) -> Path:
    """Where a benchmark's files are.

    The folder of its name in `data`, or of the beginning of its name, which several parts of a benchmark share
    (`perception-test` of `perception-test-valid`); where one benchmark is asked for, else `data` itself.

    Raises:
        DataError: there is no such folder.
    """
    words = name.split("-")
    for length in range(len(words), 0, -1):
        if (found := data / "-".join(words[:length])).is_dir():
            return found
    if not data.is_dir():
        raise DataError(f"{data} is no folder; give the one that holds the benchmark's files with --data")
    if not alone:
        raise DataError(f"{data} holds no folder {name}; of several benchmarks, each has its own folder there")
    return data


@contextlib.contextmanager
def _kept(folder: Path) -> Iterator[None]:
    """Who interrupts a run is told that nothing is lost."""
    try:
        yield
    except KeyboardInterrupt:
        terminal.say(f"what was answered stays in {folder}; the same command goes on from there")
        raise


@contextlib.contextmanager
def _progress(name: str, *, quiet: bool) -> Iterator[Any]:
    """A bar, or lines, of the items that are done; yields what `evaluate` tells."""
    if quiet:
        yield None
        return
    from ..evals.items import Outcome
    from ..progress import Progress, begin

    counted: Counter[str] = Counter()
    shown: list[Progress] = []

    def kind(result: "Result") -> str:  # without a truth nothing is right or wrong
        return "to hand in" if result.read is not None and not result.truth else result.outcome.value

    def told(results: "Sequence[Result]", done: int, total: int) -> None:
        if not shown:
            shown.append(begin(done, total, "item"))
        counted.update(map(kind, results))
        words = ", ".join(f"{counted[word]} {word}" for word in [*Outcome, "to hand in"] if counted[word])
        shown[0].update(done, f"{name}: {words}" if words else name)

    try:
        yield told
    finally:
        for bar in shown:
            bar.close()
