"""`videollama2 chat [MEDIA...]`."""

import argparse
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..errors import PromptError
from . import arguments, terminal
from .ask import receipt_text

if TYPE_CHECKING:
    from ..generation.session import Session
    from ..receipt import Answer

_EPILOG = """examples:
  videollama2 chat clip.mp4                    decodes and encodes the clip once, not once per question
  videollama2 chat                             text only
  printf 'What is shown?\\nAnd heard?\\n' | videollama2 chat clip.mp4 --json    one JSON object per turn

in the chat: /new starts a new conversation, /receipt shows what was used of the media, Ctrl-C stops the answer,
Ctrl-D quits
"""


def register(commands: Any) -> None:
    """Add the command and its flags."""
    parser = commands.add_parser(
        "chat", help="hold a conversation about media", epilog=_EPILOG,
        description="Talk about videos, audio and images, turn by turn.",
    )  # fmt: skip
    parser.add_argument("media", nargs="*", metavar="MEDIA", help="files or folders of frames")
    parser.add_argument("--json", action="store_true", help="print one JSON object per turn")
    arguments.add_model_flags(parser)
    arguments.add_media_flags(parser)
    arguments.add_generation_flags(parser)
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Read turns from standard input, stream answers to standard output."""
    arguments.trim_torch(args)
    terminal.log_to_terminal(args.verbose)
    with terminal.progress(args.json) as on_stage:
        request = arguments.request_from(args.media, "", args)
        session = arguments.load_engine(args, on_stage).open(request, on_stage=on_stage)
        on_stage("thinking")  # from here on the terminal is the user's
    interactive = sys.stdin.isatty() and not args.json
    answer: Answer | None = None
    for line in _turns(interactive):
        if line == "/new":
            session.forget()
        elif line == "/receipt":
            terminal.say(receipt_text(answer) if answer else "no question yet", style="dim")
        else:
            try:
                answer = _answer(session, line, args.json)
            except KeyboardInterrupt:
                if not interactive:
                    raise
                terminal.say("\n(stopped; this turn is dropped)", style="dim")
            except PromptError as error:  # such as too long: the user can still type /new
                if not interactive:
                    raise
                terminal.complain(str(error))
    return 0


def _turns(interactive: bool) -> Iterator[str]:
    """Non-blank lines of standard input, until it ends."""
    while True:
        if interactive:
            terminal.console().print("you: ", style="bold", end="")
        line = sys.stdin.readline()
        if not line:
            return
        if line.strip():
            yield line.strip()


def _answer(session: "Session", line: str, as_json: bool) -> "Answer":
    stream = session.stream_chat(line)
    for text in stream:
        if not as_json:
            terminal.write(text)
    if as_json:
        terminal.print_json(stream.answer.to_dict())
    else:
        terminal.write("\n")
    return stream.answer
