"""The command line: one module per command, each a thin layer over `Engine`. `videollama2 --help` lists the commands.

Exit codes: 0 done; 1 other error; 2 invalid argument; 3 media; 4 weights; 5 prompt; 6 numerical error; 7 missing extra;
8 output could not be written; 130 interrupted. Answers go to standard output, everything else to standard error.
"""

import argparse
import os
import sys
import traceback
from collections.abc import Sequence

from .. import __version__
from ..errors import VideoLlama2Error
from . import terminal
from .arguments import Parser

_EPILOG = """examples:
  videollama2 ask clip.mp4 "What do you see and hear?"
  videollama2 chat clip.mp4
  videollama2 check 2.1-7b-av clip.mp4

exit codes: 0 done, 1 other error, 2 invalid argument, 3 media, 4 weights, 5 prompt, 6 numerical error,
7 missing extra, 8 output could not be written, 130 interrupted
"""


def build_parser() -> argparse.ArgumentParser:
    """All commands and their flags."""
    from . import (
        ask,
        caption,
        chat,
        check,
        convert,
        data,
        eval,
        fetch,
        info,
        live,
        merge,
        serve,
        train,
        ui,
        watch,
        when,
    )  # fmt: skip

    parser = Parser(
        prog="videollama2",
        description="VideoLLaMA 2: ask questions about video, audio and images; train, evaluate and serve the model.",
        epilog=_EPILOG,
    )
    parser.add_argument("--version", action="version", version=f"videollama2 {__version__}", help="print the version")
    commands = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND", required=True)
    for command in (
        ask, chat, watch, when, caption, live, serve, ui, train, data, eval, convert, merge, check, info, fetch,
    ):  # fmt: skip
        command.register(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code (argparse itself exits: 0 after --help, 2 on an invalid argument)."""
    # spinning threads slow two busy cores down tenfold; OpenMP reads this when torch is imported
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    terminal.tolerate_any_text()
    args = build_parser().parse_args(argv)
    args.own_process = argv is None
    try:
        code: int = args.func(args)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        terminal.say("interrupted")
        return 130
    except BrokenPipeError:  # the reader of our output has closed it; buffered output must go elsewhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except VideoLlama2Error as error:
        return _report("\n".join([str(error), *getattr(error, "__notes__", ())]), error, args)
    except Exception as error:  # from another library: one line, or the traceback with -v
        return _report(f"{type(error).__name__}: {error}", error, args)


def _report(message: str, error: Exception, args: argparse.Namespace) -> int:
    """Print the error (and with -v its traceback); returns the exit code."""
    verbose = getattr(args, "verbose", None)
    known = isinstance(error, VideoLlama2Error)
    terminal.complain(message + ("" if known or verbose is not False else ". Add --verbose for the traceback"))
    if verbose:
        terminal.say("".join(traceback.format_exception(error)))
    return error.exit_code if isinstance(error, VideoLlama2Error) else VideoLlama2Error.exit_code
