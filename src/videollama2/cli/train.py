"""`videollama2 train PHASE`, and `videollama2 train plot RUN`."""

import argparse
import atexit
import contextlib
import os
import signal
import sys
import threading
import types
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Union, get_args, get_origin

from ..errors import UsageError
from ..phases import PHASES, Phase
from ..train.settings import Settings, fields, read_recipe, recipe_tables, resolve
from . import terminal

if TYPE_CHECKING:
    from ..train.mixtures import SetUse

_EPILOG = """examples:
  videollama2 train video_tune --model nano --data clips.jsonl --output tuned/ --lora-rank 16 --batch 8
  videollama2 train av_joint --model nano --data clips.jsonl chat=talk.jsonl --mixture av=3,chat=1 --output both/
  videollama2 train audio_align --recipe recipes/2.1-7b-av.toml --setting printed --model 2.1-7b-16f --audio beats/ \\
      --data wavcaps.jsonl --output align/ --dry-run
  videollama2 train video_tune --output tuned/ --resume
  torchrun --nproc-per-node 8 -m videollama2 train video_tune --model 2.1-7b-16f-base --data … --output …
  videollama2 train plot tuned/

Records are .json, .jsonl, .parquet, .csv or .tar files (docs/training.md). `videollama2 train PHASE --help-all`
lists every setting with its default for that phase.
"""

_RELEASED = "released"  # the setting of a dry run that names none
_ADAPTERS = ("lora_", "quantise")
_PURPOSES = {
    "video_align": "teach a new connector to describe video",
    "video_tune": "teach the model to follow instructions about video",
    "audio_align": "teach a new audio projector to describe audio",
    "audio_tune": "teach the audio branch to follow instructions about audio",
    "av_joint": "teach the model to combine video and its audio",
}


def register(commands: Any) -> None:
    """Add the command, a sub-command for each phase, and `plot`."""
    parser = commands.add_parser(
        "train", help="run a training phase on your records", epilog=_EPILOG,
        description="Run one of the five training phases. Defaults are the published settings.",
    )  # fmt: skip
    phases = parser.add_subparsers(
        title="phases, in their usual order, and plot", dest="phase", metavar="PHASE", required=True
    )
    for phase in PHASES.values():
        _add_phase(phases, phase)
    plot = phases.add_parser(
        "plot", help="(not a phase) plot the curves of runs", description="Plot the curves of one or more runs."
    )
    plot.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="output folder of a run")
    plot.add_argument("--out", type=Path, metavar="F.png", help="image to write; default: curves.png in the first run")
    plot.add_argument("--verbose", "-v", action="store_true", help="print tracebacks of errors")
    plot.set_defaults(func=run_plot)


def _add_phase(commands: Any, phase: Phase) -> None:
    parser = commands.add_parser(
        phase.name, help=_PURPOSES.get(phase.name),
        usage=f"videollama2 train {phase.name} [OPTION ...]",
        description=f"{_PURPOSES[phase.name].capitalize()}, starting from {phase.starts_from}.",
        epilog="Values in brackets are the defaults of this phase; --help-all lists all settings.",
    )  # fmt: skip
    add = parser.add_argument_group("common").add_argument
    add("--model", "-m", metavar="M", help="model to start from: nano, a released name, a folder or a language model")
    add(
        "--data",
        nargs="+",
        metavar="[POOL=]FILE[:N]",
        help="training records; POOL names them for --mixture, N is how many to use, at random",
    )
    add(
        "--sets",
        type=Path,
        metavar="SETS",
        help="folder of built sets (data build): those that the recipe names are used",
    )
    add("--evaluation", nargs="+", metavar="FILE", default=[], help="held-out records")
    add("--media-root", type=Path, metavar="DIR", help="folder that media paths are relative to; default: each file's")
    add("--output", "-o", type=Path, required=True, metavar="DIR", help="folder of the run and of the finished model")
    add("--resume", action="store_true", help="resume the run in DIR (its original arguments are restored)")
    add("--dry-run", action="store_true", help="check data, labels, memory and steps only (without --data: memory)")
    add("--recipe", type=Path, metavar="F.toml", help="settings of a released model (recipes/)")
    add(
        "--setting",
        metavar="NAME",
        help="which settings of the recipe: those of the released code (released) or the paper (printed)",
    )
    add("--base", metavar="B", help="base model, if M is the folder of a training stage")
    add("--revision", metavar="R", help="branch, tag or commit of a hub id; default: main branch")
    add("--vision", metavar="DIR", help="vision encoder, if M is a language model")
    add("--audio", metavar="DIR", help="converted BEATs, if M has no audio encoder")
    add("--device", metavar="D", help="cpu, cuda or mps; default: the best available")
    add("--json", action="store_true", help="print one JSON object instead of text")
    add("--verbose", "-v", action="store_true", help="log what is loaded; print tracebacks of errors")
    defaults = {**vars(phase), **vars(Settings())}
    groups = {title: parser.add_argument_group(title) for title in ("training", "adapters")}
    groups["run"] = parser.add_advanced_group("run")
    for name, (kind, help) in fields().items():
        title = "adapters" if name.startswith(_ADAPTERS) else "training" if name in vars(phase) else "run"
        groups[title].add_argument(
            f"--{name.replace('_', '-')}", dest=f"set_{name}", metavar=_metavar(kind), default=argparse.SUPPRESS,
            help=f"{help} [{_shown(defaults[name])}]",
        )  # fmt: skip
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Train, or only check the run."""
    terminal.log_to_terminal(args.verbose or not args.json)
    given = {k.removeprefix("set_"): v for k, v in vars(args).items() if k.startswith("set_")}
    from ..train.build import Sources
    from ..train.mixtures import data_of, uses_table
    from ..train.run import resumed, train
    from ..weights.locate import at_revision

    if args.model:
        args.model = at_revision(args.model, args.revision)
    uses = _sets(args)
    setting = args.setting or (_RELEASED if args.dry_run and args.recipe and _has_settings(args.recipe) else None)
    recipe = {} if args.recipe is None else read_recipe(args.recipe, args.phase, setting)
    if args.resume:
        sources, phase, settings = resumed(args.output, args.phase, {**recipe, **given})
        _check_repeated(args, sources)
    else:
        model = args.model or (args.recipe.stem if args.dry_run and uses else None)
        if not model or not (args.data or uses or args.dry_run):
            raise UsageError("--model and --data are required: the model to start from, and the training records.")
        phase, settings = resolve(args.phase, recipe, given)
        sources = Sources(
            model=model, data=(*(args.data or ()), *data_of(uses)), evaluation=tuple(args.evaluation), base=args.base,
            vision=args.vision, audio=args.audio, media_root=args.media_root,
        )  # fmt: skip
    if args.dry_run:
        from ..preflight.dry_run import dry_run

        found = dry_run(sources, phase, settings, args.output, uses_table(uses) if uses else "")
        terminal.print_json(found.to_dict()) if args.json else terminal.write(found.text() + "\n")
        return 0
    with _resumable(args.phase, args.output):
        summary = train(sources, phase, settings, args.output, resume=args.resume, device=args.device, quiet=args.json)
    if os.environ.get("RANK", "0") == "0":
        terminal.print_json(summary) if args.json else terminal.write(_summary(summary))
    if getattr(args, "own_process", False) and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        _end_process()
    return 0


def _end_process() -> NoReturn:
    """Exit with 0, without tearing the interpreter down.

    Sharded models keep the process group's threads alive. One that frees a tensor after Python has begun to shut down
    is ended in the middle of C++ code, which aborts the process.
    """
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _sets(args: argparse.Namespace) -> "list[SetUse]":
    """The recipe's sets in --sets; those that are not built are reported, unless the dry run's table has them."""
    if args.sets is None:
        return []
    if args.resume:
        raise UsageError("a resumed run keeps its sets; omit --sets.")
    if args.recipe is None:
        raise UsageError("--sets needs --recipe, which names the sets.")
    from ..train.mixtures import data_of, sets_of_recipe, uses_table

    uses = sets_of_recipe(args.recipe, args.phase, args.sets)
    if not args.dry_run:
        terminal.say(uses_table(uses))
    if not data_of(uses):
        names = ", ".join(use.name for use in uses)
        raise UsageError(f"none of the sets of {args.phase} has records in {args.sets}: build {names}.")
    return uses


def _has_settings(recipe: Path) -> bool:
    return isinstance(recipe_tables(recipe).get(_RELEASED), dict)


def _check_repeated(args: argparse.Namespace, sources: Any) -> None:
    """Reject a resume whose sources differ from the original run's."""
    for name in ("model", "base", "vision", "audio", "data", "evaluation", "media_root"):
        given, original = getattr(args, name), getattr(sources, name)
        if given and (tuple(given) if isinstance(given, list) else given) != original:
            flag = f"--{name.replace('_', '-')}"
            raise UsageError(
                f"{args.output} was started with {flag} {_words(original)}, not {_words(given)}; omit {flag} to resume "
                "it, or start a new run."
            )


def _words(value: Any) -> str:
    return " ".join(value) if isinstance(value, list | tuple) else str(value)


@contextlib.contextmanager
def _resumable(phase: str, output: Path) -> Iterator[None]:
    """On Ctrl-C or SIGTERM (exit code 143), end the run cleanly and print how to resume it."""

    def stop(number: int, frame: object) -> NoReturn:
        raise SystemExit(128 + number)

    # torchrun stops all its processes itself; one that waits for another could not stop cleanly
    alone = os.environ.get("WORLD_SIZE", "1") == "1" and threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, stop) if alone else None
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        if (output / "settings.json").is_file():
            terminal.say(
                f"stopped; resume from the last checkpoint: videollama2 train {phase} --output {output} --resume"
            )
        raise
    finally:
        if alone:
            signal.signal(signal.SIGTERM, before)


def run_plot(args: argparse.Namespace) -> int:
    """Plot, and print the path of the image."""
    terminal.log_to_terminal(args.verbose)
    from ..train.plot import plot, sketch

    made = plot(args.runs, args.out)
    terminal.write(f"{sketch(args.runs)}\n{made}\n")
    return 0


def _summary(summary: dict[str, Any]) -> str:
    best, left = summary["best"], summary["skipped"]
    lines = [f"trained {summary['folder']}: {summary['phase']}, {summary['steps']} steps"]
    if best is not None:
        lines.append(f"best evaluation loss: {best['loss']:.4f} at step {best['step']}")
    if left:
        lines.append(f"{left} samples could not be read and were skipped; {summary['folder']}/metrics.jsonl lists them")
    folder = summary["folder"]
    lines.append(f'try it: videollama2 ask clip.mp4 "What do you see?" --model {folder}')
    if (Path(folder) / "adapter_config.json").is_file():
        lines.append(f"merge the adapters into the base: videollama2 merge {folder} merged")
    lines.append(f"plot the curves: videollama2 train plot {folder}")
    return "\n".join(lines) + "\n"


def _metavar(kind: Any) -> str:
    if get_origin(kind) in (Union, types.UnionType):  # an optional setting
        kind = next(each for each in get_args(kind) if each is not types.NoneType)
    if get_origin(kind) is Literal:
        return "|".join(map(str, get_args(kind)))
    if get_origin(kind) is dict:
        return "NAME=X,…"
    if get_origin(kind) in (tuple, frozenset):
        return "NAME,…"
    return {int: "N", float: "X", bool: "true|false", str: "NAME", Path: "PATH"}[kind]


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ",".join(f"{k}={v:g}" for k, v in value.items()) or "none"
    if isinstance(value, frozenset | tuple):
        return ",".join(sorted(value))
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value).lower()
