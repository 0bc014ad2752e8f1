"""`videollama2 train PHASE`, and `videollama2 train plot RUN`."""

import argparse
import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from ..errors import UsageError
from ..phases import PHASES, Phase
from ..train.settings import Settings, describe, fields, read_recipe, resolve
from . import terminal

_EPILOG = """examples:
  videollama2 train video_tune --model nano --data clips.jsonl --output tuned/ --lora-rank 16 --batch 8
  videollama2 train av_joint --model nano --data clips.jsonl chat=talk.jsonl --mixture av=3,chat=1 --output both/
  videollama2 train audio_align --recipe recipes/2.1-7b-av.toml --setting printed --model 2.1-7b-16f --audio beats/ \\
      --data wavcaps.jsonl --output align/ --dry-run
  videollama2 train video_tune --output tuned/ --resume
  torchrun --nproc-per-node 8 -m videollama2 train video_tune --model 2.1-7b-16f-base --data … --output …
  videollama2 train plot tuned/

DATA is .json, .jsonl, .parquet, .csv or .tar (docs/training.md). Every setting is a flag; what it is by
default stands beside it.
"""


def register(commands: Any) -> None:
    """Add the command, a sub-command for each phase, and `plot`."""
    parser = commands.add_parser(
        "train", help="one of the five phases, on your own records",
        description="Train a phase: what learns, from what and how fast, as published unless you say otherwise.",
        epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    phases = parser.add_subparsers(dest="phase", metavar="PHASE", required=True)
    for phase in PHASES.values():
        _add_phase(phases, phase)
    plot = phases.add_parser("plot", help="draw the curves of runs", description="Draw the curves of one or more runs.")
    plot.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="the --output of a run")
    plot.add_argument("--out", type=Path, metavar="F.png", help="picture to write (default: curves.png in the run)")
    plot.add_argument("--verbose", "-v", action="store_true", help="say where errors come from")
    plot.set_defaults(func=run_plot)


def _add_phase(commands: Any, phase: Phase) -> None:
    parser = commands.add_parser(
        phase.name, help=f"{', '.join(sorted(phase.learns))} learn",
        description=f"Train {phase.name}. It starts from {phase.starts_from}.",
        epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = parser.add_argument
    add("--model", "-m", metavar="M", help="to start from: nano, a released name, a folder; or a language model")
    add("--base", metavar="B", help="base model, where M is a training stage's folder")
    add("--vision", metavar="DIR", help="vision encoder, where M is a language model")
    add("--audio", metavar="DIR", help="converted BEATs, where M has no audio encoder")
    add("--data", nargs="+", metavar="[POOL=]FILE", help="records to learn from; POOL names them for --mixture")
    add("--evaluation", nargs="+", metavar="FILE", default=[], help="records that are measured on only")
    add("--media-root", type=Path, metavar="DIR", help="what media paths are relative to (default: each file's folder)")
    add("--output", "-o", type=Path, required=True, metavar="O", help="folder of the run and of the finished model")
    add("--recipe", type=Path, metavar="F.toml", help="settings for a released model (recipes/)")
    add("--setting", metavar="NAME", help="of the recipe: released or printed")
    add("--resume", action="store_true", help="go on with the run in O; what it was started with need not be repeated")
    add(
        "--dry-run",
        action="store_true",
        help="check data, labels, memory and steps, and stop there; without --data, memory",
    )
    add("--device", metavar="D", help="cpu, cuda, mps (default: the best one here)")
    add("--json", action="store_true", help="print one JSON object instead of text")
    add("--verbose", "-v", action="store_true", help="say what is loaded, and where errors come from")
    group = parser.add_argument_group("settings")
    defaults = {**vars(phase), **vars(Settings())}
    for name, (kind, help) in fields().items():
        flag, shown = f"--{name.replace('_', '-')}", _shown(defaults[name])
        group.add_argument(
            flag, dest=f"set_{name}", metavar=_metavar(kind), default=argparse.SUPPRESS, help=f"{help} [{shown}]"
        )
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Train, or only look whether one could."""
    terminal.log_to_terminal(args.verbose or not args.json)
    given = {k.removeprefix("set_"): v for k, v in vars(args).items() if k.startswith("set_")}
    from ..train.prepare import Sources
    from ..train.run import resumed, train

    recipe = {} if args.recipe is None else read_recipe(args.recipe, args.phase, args.setting)
    if args.resume:
        sources, phase, settings = resumed(args.output, args.phase, {**recipe, **given})
        _check_repeated(args, sources)
    else:
        if not args.model or not (args.data or args.dry_run):
            raise UsageError("--model and --data are needed: what to start from, and the records to learn from")
        phase, settings = resolve(args.phase, recipe, given)
        sources = Sources(
            model=args.model, data=tuple(args.data or ()), evaluation=tuple(args.evaluation), base=args.base,
            vision=args.vision, audio=args.audio, media_root=args.media_root,
        )  # fmt: skip
    if args.dry_run:
        from ..preflight.dry_run import dry_run

        found = dry_run(sources, phase, settings, args.output)
        terminal.write_json(found.to_dict()) if args.json else terminal.write(found.text() + "\n")
        return 0
    with _told_how_to_go_on(args.phase, args.output):
        summary = train(sources, phase, settings, args.output, resume=args.resume, device=args.device, quiet=args.json)
    if os.environ.get("RANK", "0") == "0":
        terminal.write_json(summary) if args.json else terminal.write(_told(summary))
    return 0


def _check_repeated(args: argparse.Namespace, sources: Any) -> None:
    """Refuse to resume from other sources than the run began with, where any are named."""
    for name in ("model", "base", "vision", "audio", "data", "evaluation", "media_root"):
        said, began = getattr(args, name), getattr(sources, name)
        if said and (tuple(said) if isinstance(said, list) else said) != began:
            flag = f"--{name.replace('_', '-')}"
            raise UsageError(
                f"{args.output} began with another {flag} ({_words(began)}) than {_words(said)}; leave {flag} out to "
                "go on with it, or start a new run"
            )


def _words(value: Any) -> str:
    return " ".join(value) if isinstance(value, list | tuple) else str(value)


@contextlib.contextmanager
def _told_how_to_go_on(phase: str, output: Path) -> Iterator[None]:
    """Stopped by ctrl-C or SIGTERM (exit code 143), a run ends in order and says how it is gone on with."""

    def stop(number: int, frame: object) -> NoReturn:
        raise SystemExit(128 + number)

    # among processes torchrun stops all; one that waits for another could not
    listens = os.environ.get("WORLD_SIZE", "1") == "1" and threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, stop) if listens else None
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        if (output / "settings.json").is_file():
            terminal.say(
                f"stopped; go on from the last checkpoint: videollama2 train {phase} --output {output} --resume"
            )
        raise
    finally:
        if listens:
            signal.signal(signal.SIGTERM, before)


def run_plot(args: argparse.Namespace) -> int:
    """Draw, and name the picture."""
    terminal.log_to_terminal(args.verbose)
    from ..train.plot import plot, sketch

    made = plot(args.runs, args.out)
    terminal.write(f"{sketch(args.runs)}\n{made}\n")
    return 0


def _told(summary: dict[str, Any]) -> str:
    best, left = summary["best"], summary["skipped"]
    lines = [f"{summary['folder']} is a model now: {summary['phase']}, {summary['steps']} steps"]
    if best is not None:
        lines.append(f"best loss on the evaluation data: {best['loss']:.4f}, at step {best['step']}")
    if left:
        lines.append(
            f"{left} samples could not be read and were left out; {summary['folder']}/metrics.jsonl names them"
        )
    folder = summary["folder"]
    lines.append(f'ask it: videollama2 ask clip.mp4 "What do you see?" --model {folder}')
    if (Path(folder) / "adapter_config.json").is_file():
        lines.append(f"adapters and base in one folder: videollama2 merge {folder} merged")
    lines.append(f"curves: videollama2 train plot {folder}")
    return "\n".join(lines) + "\n"


def _metavar(kind: Any) -> str:
    words = describe(kind).removesuffix(" or none")
    short = {"a whole number": "N", "a number": "X", "a text": "NAME", "a path": "PATH", "true or false": "true|false"}
    return short.get(words, words.replace(", ", "|"))


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ",".join(f"{k}={v:g}" for k, v in value.items()) or "none"
    if isinstance(value, frozenset | tuple):
        return ",".join(sorted(value))
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value).lower()
