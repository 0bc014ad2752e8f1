"""`videollama2 chat [MEDIA...]`."""

import argparse
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..errors import PromptError
from . import terminal
from .ask import summary

if TYPE_CHECKING:
    from ..generation.session import Session
    from ..receipt import Answer

_EPILOG = """examples:
  videollama2 chat clip.mp4                    media are decoded and encoded once; each turn costs its own text only
  videollama2 chat                             text only
  printf 'What is shown?\\nAnd heard?\\n' | videollama2 chat clip.mp4 --json    one JSON object per turn

in the chat: /new forgets the conversation, /receipt tells what was seen and heard, Ctrl-C stops an answer, Ctrl-D ends
"""


def register(commands: Any) -> None:
    """Add the command and its flags."""
    parser = commands.add_parser(
        "chat", help="a conversation about media", description="Talk about videos, sounds and pictures, turn by turn.",
        epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("media", nargs="*", metavar="MEDIA", help="files or folders of frames")
    terminal.add_model_flags(parser)
    terminal.add_media_flags(parser)
    terminal.add_generation_flags(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object per turn")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Read turns from standard input, stream answers to standard output."""
    terminal.log_to_terminal(args.verbose)
    with terminal.progress(args.json) as on_stage:
        request = terminal.request(args.media, "", args)
        session = terminal.load_engine(args, on_stage).open(request, on_stage=on_stage)
        on_stage("thinking")  # from here on it is the user's terminal
    someone_types = sys.stdin.isatty() and not args.json
    answer: Answer | None = None
    for line in _turns(someone_types):
        if line == "/new":
            session.forget()
        elif line == "/receipt":
            terminal.say(summary(answer) if answer else "nothing was asked yet", style="dim")
        else:
            try:
                answer = _say(session, line, args.json)
            except KeyboardInterrupt:
                if not someone_types:
                    raise
                terminal.say("\n(stopped; this turn is forgotten)", style="dim")
            except PromptError as error:  # too long, say: the conversation can go on after /new
                if not someone_types:
                    raise
                terminal.complain(str(error))
    return 0


def _turns(someone_types: bool) -> Iterator[str]:
    """Lines of standard input that hold more than white space, until its end."""
    while True:
        if someone_types:
            terminal.console().print("you: ", style="bold", end="")
        line = sys.stdin.readline()
        if not line:
            return
        if line.strip():
            yield line.strip()


def _say(session: "Session", line: str, as_json: bool) -> "Answer":
    stream = session.stream_chat(line)
    for piece in stream:
        if not as_json:
            terminal.write(piece)
    if as_json:
        terminal.write_json(stream.answer.to_dict())
    else:
        terminal.write("\n")
    return stream.answer
