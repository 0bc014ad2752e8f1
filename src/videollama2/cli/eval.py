"""`videollama2 eval BENCHMARK…`: ask a model every question of benchmarks, and score the answers."""

import argparse
import os
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from . import arguments, eval_data, eval_judge, eval_report, rows, terminal
from .eval_data import data_folder

_EPILOG = """examples:
  videollama2 eval list                                          all benchmarks, and the files each one needs
  videollama2 eval self-test --data benchmarks                   what was found, and how items are asked and read
  videollama2 eval mvbench --model 2.1-7b-av --data benchmarks   files in benchmarks/mvbench, or in benchmarks itself
  videollama2 eval avqa music-avqa --data D --ablate audio,video,text-only
  videollama2 eval mvbench --data D --limit 100 --batch 8
  videollama2 eval probe --model nano                            offline: clips generated for the purpose
  videollama2 eval report evals/2.1-7b-av/mvbench                Markdown, JSON and HTML
  videollama2 eval compare evals/nano evals/2.1-7b-av            paired differences
  torchrun --nproc-per-node 8 -m videollama2 eval video-mme --data D
  videollama2 eval video-mme --data D --ray auto                 on a Ray cluster

`videollama2 eval run --help` lists the flags for running benchmarks. Each benchmark gets its own folder in --out. An
interrupted run resumes when the same command is run again. Items with missing media, or whose answer fails, are marked
failed and count as wrong.
"""
_PROBE = """examples:
  videollama2 eval probe --model nano                             offline: drawn objects, synthetic audio
  videollama2 eval probe --model M --packs PACKS --batch 8        photos, drawings, recordings (made by recipes/nano)
  videollama2 eval probe --clips 8 --ablate ''                    a quick look
  videollama2 eval probe --make-only --out probes                 only the clips and questions

Every clip is asked about twice, with options (probe) and open-ended (probe-open), and again without audio, without
video, and with neither, which exposes questions that give their answers away. The clips are in OUT/clips/probe.
"""
CLIPS = "clips"  # folder in --out
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..evals.items import Result

_RUN = "run"


def register(commands: Any) -> None:
    """Add the command, its actions and their flags."""
    parser = commands.add_parser(
        "eval", help="run benchmarks, and report, compare or judge results", epilog=_EPILOG,
        description="Measure a model on benchmarks.",
    )  # fmt: skip
    parser.default_action = _RUN
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    _register_run(actions)
    _register_probe(actions)
    eval_report.register(actions)
    eval_data.register(actions)
    eval_judge.register(actions)
    eval_report.register_export(actions)


def _register_run(actions: Any) -> None:
    parser = actions.add_parser(
        _RUN, help="run benchmarks (the default; flags: eval run --help)", epilog=_EPILOG,
        usage="videollama2 eval run [OPTION ...] BENCHMARK ...",
        description="Ask a model every question of one or more benchmarks.",
    )  # fmt: skip
    parser.add_argument("benchmarks", nargs="+", metavar="BENCHMARK", help="names, as printed by `eval list`")
    parser.add_argument("--data", required=True, metavar="D", help="folder of the benchmark, or with one per benchmark")
    _add_flags(parser)
    parser.set_defaults(func=run)


def _register_probe(actions: Any) -> None:
    parser = actions.add_parser(
        "probe", help="generate an offline benchmark and run it", description="Generate the probe and run it.",
        epilog=_PROBE, usage="videollama2 eval probe [OPTION ...]",
    )  # fmt: skip
    add = parser.add_argument
    add("--packs", metavar="F", help="folder with pictures.npz and sounds.npz; default: drawn objects, synthetic audio")
    add("--clips", type=int, metavar="N", help="clips for each of the nine tasks; default: 40")
    add("--seed", type=int, metavar="S", help="generate a different probe; default: 20000")
    add("--only", choices=("options", "open"), help="ask only with options, or only open-ended; default: both")
    add("--make-only", action="store_true", help="generate the probe, but don't run it")
    _add_flags(parser)
    parser.set_defaults(func=run_probe, ablate="audio,video,text-only")


def _add_flags(parser: argparse.ArgumentParser) -> None:
    """Flags of `run` and `probe`: how questions are asked, and where results go."""
    add = parser.add_argument
    add("--out", metavar="FOLDER", help="where results go; default: evals/MODEL")
    add("--setting", default="strict", choices=("strict", "paper"),
        help="strict (default): unparsable answers count as wrong; paper: as published")  # fmt: skip
    add("--ablate", default="", metavar="A,…", help="repeat without audio, video, or both: audio, video, text-only")
    add("--limit", type=int, metavar="N", help="only N items, evenly spaced")
    add("--batch", type=int, metavar="N", help="items per batch; default: the questions about a clip, at most 8")
    add("--protocol", metavar="P", help="media preprocessing; default: the model's own, or the setting's")
    add("--frames", type=int, metavar="N", help="frames per video; default: the model's own number")
    add("--retry-failed", action="store_true", help="retry items that failed")
    rows.add_ray_flags(parser, add, endpoints=False)
    add("--quiet", "-q", action="store_true", help="no progress")
    add("--json", action="store_true", help="print the summaries as one JSON object")
    arguments.add_model_flags(parser)
    add = parser.add_argument_group("advanced").add_argument
    add("--shard", metavar="K/N", help="run only shard K of N (0/2, 1/2); default: from torchrun")
    add("--threads", type=int, metavar="N", help="items in progress at once; default: 2, on a CPU 1")
    add("--timeout", type=float, default=120.0, metavar="S", help="decoding time limit per item, seconds; default: 120")
    add("--memory", type=int, default=4096, metavar="MIB", help="memory limit of a media worker; default: 4096")


def run(args: argparse.Namespace) -> int:
    """Run each benchmark, and print its figures."""
    from ..device import find, own
    from ..evals.loop import ablations_of
    from ..evals.manifest import all_facts
    from ..evals.registry import benchmark
    from ..evals.report.tables import brief
    from ..evals.run import check_numbers, evaluate, media_options_for
    from ..jobs import parse_share, share_from_environment
    from ..media.clip_cache import ClipCache

    terminal.log_to_terminal(args.verbose)
    chosen = [benchmark(name) for name in dict.fromkeys(args.benchmarks)]
    rank, world = share_from_environment() if args.shard is None else parse_share(args.shard)
    ablations = ablations_of(["none", *filter(None, args.ablate.split(","))])
    folders = [data_folder(Path(args.data), b.name, alone=len(chosen) == 1) for b in chosen]
    prepared = [media_options_for(each, args.setting, protocol=args.protocol, frames=args.frames) for each in chosen]
    out, quiet = out_folder(args), args.quiet or args.json
    if args.ray is not None and world > 1:
        raise UsageError("--ray divides the items among its engines itself; drop --shard, or torchrun.")
    if args.threads is None:  # on a CPU, decoding the next item would only slow the current answer down
        args.threads = 1 if find(args.device).type == "cpu" else 2
    if "LOCAL_RANK" in os.environ and ":" not in args.device:
        args.device = str(own(find(args.device)))
    check_numbers(limit=args.limit, batch=args.batch, rank=rank, world=world, threads=args.threads)
    for each, folder in zip(chosen, folders, strict=True):  # report problems with files before loading a model
        each.load(folder, args.setting)
    summaries = {}
    with rows.engines(args, quiet, describe=all_facts, cache_clips=True) as engine:
        if args.ray is None:
            engine.opener = ClipCache(engine.opener)  # benchmarks ask several questions about a clip, one after another
        for each, folder, options in zip(chosen, folders, prepared, strict=True):
            with (
                terminal.counting("item", quiet=quiet) as update,
                terminal.resumable(out / each.name),
                terminal.without_losses(args.verbose),
            ):
                done = evaluate(
                    engine, each, folder, out, setting=args.setting, ablations=ablations, limit=args.limit,
                    batch=args.batch, media_options=options, rank=rank, world=world, threads=args.threads,
                    retry=args.retry_failed, on_progress=None if update is None else _counts(each.name, update),
                )  # fmt: skip
            summaries[each.name] = dict(done.summary)
            if done.left:
                terminal.say(f"{each.name}: this shard is done; {done.left} items of other shards are not")
            elif not args.json:
                print(terminal.harmless(brief(done.summary)))
                terminal.say(f"results: {done.folder}")
    if args.json:
        terminal.print_json(summaries)
    return 0


def _counts(name: str, update: terminal.Update) -> Any:
    """A progress callback that counts outcomes."""
    from ..evals.items import Outcome

    unscored = "unscored"  # without a public answer nothing is right or wrong
    counted: Counter[str] = Counter()

    def kind(result: "Result") -> str:
        return unscored if result.read is not None and not result.truth else result.outcome.value

    def on_progress(results: "Sequence[Result]", done: int, total: int) -> None:
        counted.update(map(kind, results))
        words = ", ".join(f"{counted[word]} {word}" for word in [*Outcome, unscored] if counted[word])
        update(done, total, f"{name}: {words}" if words else name)

    return on_progress


def out_folder(args: argparse.Namespace) -> Path:
    """--out, or evals/ with the model's name."""
    return Path(
        args.out
        or Path("evals") / re.sub(r"[^\w.-]+", "-", "@".join(filter(None, (args.model, args.revision)))).strip("-.")
    )


def run_probe(args: argparse.Namespace) -> int:
    """Generate the probe, then run it as a benchmark."""
    clips = make_probe(args, out_folder(args) / CLIPS)
    if args.make_only:
        return 0
    names = {"options": ["probe"], "open": ["probe-open"], None: ["probe", "probe-open"]}
    args.benchmarks, args.data = names[args.only], str(clips)
    return run(args)


def make_probe(args: argparse.Namespace, clips: Path) -> Path:
    """Write what is missing of the probe into the folder `probe` in `clips`; returns `clips`."""
    from ..evals import probe

    terminal.log_to_terminal(args.verbose)
    source = probe.built_in() if args.packs is None else probe.packs(Path(args.packs))
    quiet = args.quiet or args.json
    with terminal.counting("clip", quiet=quiet) as update:
        made = probe.make(
            clips / "probe", source,
            on_progress=None if update is None else lambda done, total: update(done, total, "generating the probe"),
            clips=probe.CLIPS if args.clips is None else args.clips,
            seed=probe.SEED if args.seed is None else args.seed,
        )  # fmt: skip
    if not quiet:
        terminal.say(f"probe: {made}, {source.name}")
    return clips
