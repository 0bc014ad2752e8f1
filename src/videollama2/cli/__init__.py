"""The command line: one module per command, each a thin face of `Engine`.

    ask      a question about media          check    files, keys, tokens and memory of a model
    chat     a conversation about media      info     model card, licence, provenance
    convert  pickles → safetensors           merge    a training stage and its base → one folder

Exit codes: 0 done; 1 another error of this package; 2 a flag or call that makes no sense; 3 media; 4 weights;
5 prompt; 6 not a number; 7 a missing extra; 130 interrupted.
"""

import argparse
import os
import sys
from collections.abc import Sequence

from .. import __version__
from ..errors import VideoLlama2Error

_EPILOG = """exit codes: 0 done, 1 other error, 2 usage, 3 media, 4 weights, 5 prompt, 6 not a number,
7 missing extra, 130 interrupted

examples:
  videollama2 ask clip.mp4 "What do you see and hear?"
  videollama2 chat clip.mp4
  videollama2 check 2.1-7b-av clip.mp4
"""


def build_parser() -> argparse.ArgumentParser:
    """All commands and their flags."""
    from . import ask, chat, check, convert, info, merge

    parser = argparse.ArgumentParser(
        prog="videollama2",
        description="VideoLLaMA 2: one model that sees, hears and answers.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"videollama2 {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in (ask, chat, check, info, convert, merge):
        command.register(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    # spinning threads make two busy cores ten times slower; it must be said before torch is imported
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    args = build_parser().parse_args(argv)
    try:
        code: int = args.func(args)
        sys.stdout.flush()
        return code
    except VideoLlama2Error as error:
        _complain(error)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output went away
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _complain(error: VideoLlama2Error) -> None:
    from .terminal import console

    console().print(f"[bold red]error:[/] {_escaped(str(error))}", soft_wrap=True)
    for note in getattr(error, "__notes__", ()):
        console().print(_escaped(note), soft_wrap=True)


def _escaped(text: str) -> str:
    """Text of files and users must not be read as markup, nor drive the terminal."""
    from rich.markup import escape

    return escape("".join(c if c.isprintable() or c in "\n\t" else f"\\x{ord(c):02x}" for c in text))
