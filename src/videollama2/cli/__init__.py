"""The command line: one module per command, each a thin face of `Engine`.

    ask      a question about media          check    files, keys, tokens and memory of a model
    chat     a conversation about media      info     model card, licence, provenance
    convert  pickles → safetensors           merge    a training stage and its base → one folder
    fetch    what a model needs, once        train    one of the five phases, on your own records
    data     what is wrong with training data (doctor)
    watch    a long clip, window by window   caption  captions of many files
    live     questions about what goes on now
    eval     benchmarks: run, list, report, compare, judge
    serve    an OpenAI-compatible HTTP server ui       a page to ask about clips in a browser

Exit codes: 0 done; 1 another error; 2 a flag or call that makes no sense; 3 media; 4 weights; 5 prompt; 6 not a
number; 7 a missing extra; 8 output that can't be written; 130 interrupted. Answers go to standard
output, everything else to standard error.
"""

import argparse
import os
import re
import sys
import traceback
from collections.abc import Sequence
from typing import Any, NoReturn

from .. import __version__
from ..errors import UsageError, VideoLlama2Error, did_you_mean
from . import terminal

_EPILOG = """exit codes: 0 done, 1 other error, 2 usage, 3 media, 4 weights, 5 prompt, 6 not a number,
7 missing extra, 8 output can't be written, 130 interrupted

examples:
  videollama2 ask clip.mp4 "What do you see and hear?"
  videollama2 chat clip.mp4
  videollama2 check 2.1-7b-av clip.mp4
"""


class _Parser(argparse.ArgumentParser):
    """argparse's, which guesses no flag from its beginning, and says what is wrong as every other error is said."""

    default_action: str | None = None  # of a command with actions: the one that is meant where none is named

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(allow_abbrev=False, **kwargs)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse's; but what a sub-command does not know is said by it, with the nearest flag that it has."""
        if self.default_action is not None and args and not self._names_an_action(args[0]):
            args = [self.default_action, *args]
        found, unknown = super().parse_known_args(args, namespace)
        several = [a for a in self._actions if a.nargs == "+" and not a.option_strings]
        if several and not any(word.startswith("-") for word in unknown):  # words that stand after a flag
            getattr(found, several[-1].dest).extend(self._get_value(several[-1], word) for word in unknown)
            unknown = []
        flags = [word.split("=")[0] for word in unknown if word.startswith("--")]
        if flags:
            hint = did_you_mean(flags[0], self._option_string_actions)
            self.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
        return found, unknown

    def _names_an_action(self, word: str) -> bool:
        return word in ("-h", "--help") or any(word in (action.choices or ()) for action in self._actions)

    def error(self, message: str) -> NoReturn:
        hint = " (a file name that begins with '-' is given as ./-name)" if "unrecognized" in message else ""
        if wrong := re.search(r"invalid choice: '(.+?)' \(choose from (.+)\)", message):
            hint = did_you_mean(wrong[1], re.findall(r"'(.+?)'", wrong[2]))
        terminal.complain(f"{message}{hint}; see {self.prog} --help")
        sys.exit(UsageError.exit_code)


def build_parser() -> argparse.ArgumentParser:
    """All commands and their flags."""
    from . import ask, caption, chat, check, convert, data, eval, fetch, info, live, merge, serve, train, ui, watch

    parser = _Parser(
        prog="videollama2",
        description="VideoLLaMA 2: one model that sees, hears and answers.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"videollama2 {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in (ask, chat, check, info, fetch, convert, merge, train, data, eval, serve, ui, watch, caption, live):
        command.register(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code (argparse exits by itself: 0 after --help, 2 on a wrong flag)."""
    # spinning threads make two busy cores ten times slower; it must be said before torch is imported
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    terminal.tolerate_any_text()
    args = build_parser().parse_args(argv)
    try:
        code: int = args.func(args)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        terminal.say("interrupted")
        return 130
    except BrokenPipeError:  # the reader of our output went away; so must what is still buffered
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except VideoLlama2Error as error:
        return _complain("\n".join([str(error), *getattr(error, "__notes__", ())]), error, args)
    except Exception as error:  # of another library: said in one line, and in full on request
        return _complain(f"{type(error).__name__}: {error}", error, args)


def _complain(message: str, error: Exception, args: argparse.Namespace) -> int:
    """Say what went wrong, with -v where; returns the exit code."""
    verbose = getattr(args, "verbose", None)
    known = isinstance(error, VideoLlama2Error)
    terminal.complain(message + ("" if known or verbose is not False else ". --verbose shows where it came from"))
    if verbose:
        terminal.say("".join(traceback.format_exception(error)))
    return error.exit_code if isinstance(error, VideoLlama2Error) else VideoLlama2Error.exit_code
