"""What goes to the terminal besides answers: progress and remarks, on stderr, coloured only where someone looks."""

import argparse
import contextlib
import logging
import math
from collections.abc import Iterator
from functools import cache
from typing import Any

from rich.console import Console

STAGES = {"loading": "loading the model", "decoding": "decoding media", "encoding": "looking and listening"}


@cache
def console() -> Console:
    """Standard error; colours only if it is a terminal (and NO_COLOR is not set)."""
    return Console(stderr=True, highlight=False)


@contextlib.contextmanager
def progress(quiet: bool) -> Iterator[Any]:
    """A line that names the stage and its time, where standard error is a terminal; yields `on_stage`."""
    if quiet or not console().is_terminal:
        yield lambda stage: None
        return
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    with Progress(
        SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=console(), transient=True
    ) as bar:
        task = bar.add_task("starting", total=None)

        def on_stage(stage: str) -> None:
            # the answer itself is printed as it comes, so the bar makes way
            if stage == "thinking":
                bar.stop()
            else:
                bar.update(task, description=STAGES.get(stage, stage))

        yield on_stage


def log_to_terminal(verbose: bool) -> None:
    """Show this package's decisions (-v) or only its warnings."""
    from rich.logging import RichHandler

    handler = RichHandler(console=console(), show_time=False, show_path=False, markup=False)
    root = logging.getLogger("videollama2")
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO if verbose else logging.WARNING)
    root.propagate = False


def seconds(text: str) -> float:
    """A time as seconds or [hours:]minutes:seconds.

    Raises:
        ArgumentTypeError: anything else.
    """
    try:
        parts = [float(part) for part in text.split(":")]
        value = sum(part * 60**power for power, part in enumerate(reversed(parts)))
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or text.count(":") > 2 or any(p < 0 for p in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is no time; expected seconds (12.5) or minutes:seconds (1:02.5)")
    return value


def add_model_flags(parser: argparse.ArgumentParser) -> None:
    """Flags that choose a model and its place."""
    group = parser.add_argument_group("model")
    group.add_argument(
        "--model", "-m", default="nano", metavar="M", help="nano (default), a released name, a hub id or a folder"
    )
    group.add_argument("--base", metavar="B", help="base language model of a training stage's folder, or of nano")
    group.add_argument("--device", default="auto", metavar="D", help="auto (default), cpu, cuda, cuda:N or mps")
    group.add_argument("--dtype", default="auto", metavar="T", help="auto (default), float32, bfloat16 or float16")
    group.add_argument("--verbose", "-v", action="store_true", help="say what is loaded, and why where it runs")


def add_media_flags(parser: argparse.ArgumentParser) -> None:
    """Flags that say what is used of the media."""
    group = parser.add_argument_group("media")
    group.add_argument("--protocol", metavar="P", help="released, full or paper; default: the model's own")
    group.add_argument("--start", type=seconds, metavar="S", help="begin at this time (12.5 or 1:02.5)")
    group.add_argument("--end", type=seconds, metavar="S", help="end at this time")
    group.add_argument("--frames", type=int, metavar="N", help="frames to look at; default: the model's own number")
    group.add_argument("--no-audio", action="store_true", help="do not listen")
    group.add_argument("--no-video", action="store_true", help="do not look")
    group.add_argument("--strict", action="store_true", help="anything asked for and not used is an error")


def add_generation_flags(parser: argparse.ArgumentParser) -> None:
    """Flags that say how the answer is made."""
    group = parser.add_argument_group("answer")
    group.add_argument("--system", metavar="TEXT", help="replace the model's system prompt")
    group.add_argument("--max-new-tokens", type=int, default=512, metavar="N", help="default: 512")
    group.add_argument("--temperature", type=float, default=0.0, metavar="X", help="0 (default): always the likeliest")
    group.add_argument("--top-p", type=float, default=0.9, metavar="X", help="default: 0.9; used where temperature > 0")
    group.add_argument("--seed", type=int, metavar="N", help="makes sampling repeatable")


def media_options(args: argparse.Namespace) -> dict[str, Any]:
    """Keywords of `Engine.open` from the flags."""
    return {
        "start": args.start,
        "end": args.end,
        "num_frames": args.frames,
        "audio": not args.no_audio,
        "video": not args.no_video,
        "strict": args.strict,
        "protocol": args.protocol,
    }


def generation_options(args: argparse.Namespace) -> dict[str, Any]:
    """Keywords of `GenerateOptions` from the flags."""
    return {
        "max_new_tokens": args.max_new_tokens,
        "temperature": args.temperature,
        "top_p": args.top_p,
        "seed": args.seed,
    }


def load_engine(args: argparse.Namespace, on_stage: Any) -> Any:
    """The engine that the flags ask for."""
    import videollama2

    on_stage("loading")
    return videollama2.load(args.model, device=args.device, dtype=args.dtype, base=args.base)
