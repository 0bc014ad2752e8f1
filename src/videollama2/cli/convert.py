"""`videollama2 convert SRC DST`."""

import argparse
import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from . import terminal

if TYPE_CHECKING:
    from ..weights.convert import Conversion, Progress

_EPILOG = """examples:
  videollama2 convert BEATs_iter3_plus_AS2M.pt beats/         → audio_tower.safetensors, beats_config.json
  videollama2 convert VideoLLaMA2-7B-Base/ base/              mm_projector.bin → mm_projector.safetensors
  videollama2 convert checkpoint/ ours/ --to native           a complete model, with this package's tensor names
  videollama2 convert ours/ theirs/ --to original             and back, with the original's tensor names
  videollama2 convert 2.1-7b-av small/ --gguf Q4_K_M          for --engine llama.cpp: the language model as a GGUF file

A pickle that holds more than tensors and plain data is rejected and never run. SRC is not changed.
"""


def register(commands: Any) -> None:
    """Add the command and its flags."""
    parser = commands.add_parser(
        "convert", help="convert pickles to safetensors", epilog=_EPILOG,
        description="Convert .bin and .pt files to safetensors, without running pickled code.",
    )  # fmt: skip
    parser.add_argument("source", metavar="SRC", help="a .bin or .pt file, or a folder; with --gguf any model's name")
    parser.add_argument("target", metavar="DST", help="output folder")
    parser.add_argument("--to", choices=("native", "original"), help="also rename the tensors of a complete model")
    parser.add_argument("--gguf", metavar="TYPE", help="for llama.cpp: Q4_K_M, Q5_K_M, Q8_0, F16 or F32")
    parser.add_argument("--base", metavar="B", help="with --gguf: base language model of a training stage")
    parser.add_argument("--verbose", "-v", action="store_true", help="log each step")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Convert, and report the outcome for each file."""
    terminal.log_to_terminal(args.verbose)
    with _bar(args.json) as progress:
        result = _convert(args, progress)
    if args.json:
        terminal.print_json(result.to_dict())
        return 0
    if result.already_done:
        print(f"{args.target} already holds the result of this conversion; nothing to do")
        return 0
    for before, after in result.converted.items():
        print(f"converted  {before} → {after}")
    for name in result.copied:
        print(f"copied     {name}")
    for name, reason in result.left_out.items():
        print(f"skipped    {name} ({reason})")
    print(f"{args.target}: {result.tensors} tensors" + (f", {result.layout} layout" if result.layout else ""))
    return 0


def _convert(args: argparse.Namespace, progress: "Progress | None") -> "Conversion":
    if args.gguf is None:
        from ..weights.convert import convert

        if args.base is not None:
            raise UsageError("--base is for --gguf; to convert a training stage's own files, drop it.")
        return convert(args.source, args.target, layout=args.to, progress=progress)
    from ..backends.llama_cpp.convert import convert_gguf

    if args.to is not None:
        raise UsageError("--gguf and --to can't be combined; convert twice.")
    return convert_gguf(args.source, args.target, args.gguf, base=args.base, progress=progress)


@contextlib.contextmanager
def _bar(quiet: bool) -> "Iterator[Progress | None]":
    """A progress bar over the bytes of SRC, if standard error is a terminal."""
    if quiet or not terminal.console().is_terminal:
        yield None
        return
    from rich.progress import Progress

    with Progress(console=terminal.console(), transient=True) as bar:
        task = bar.add_task("converting", total=None)
        yield lambda file, done, total: bar.update(task, description=file or "writing", completed=done, total=total)
