"""`videollama2 chat [MEDIA...]`."""

import argparse
import json
import sys
from collections.abc import Iterator
from typing import Any

from ..errors import PromptError
from . import terminal
from .ask import media_of, summary

_EPILOG = """examples:
  videollama2 chat clip.mp4                    media are decoded and encoded once; each turn costs its own text only
  videollama2 chat                             text only
  printf 'What is shown?\\nAnd heard?\\n' | videollama2 chat clip.mp4 --json    one JSON object per turn

in the chat: /new forgets the conversation, /receipt tells what was seen and heard, an empty line or Ctrl-D ends
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
        engine = terminal.load_engine(args, on_stage)
        session = engine.open(
            media_of(args.media, args), strict=args.strict, protocol=args.protocol, system=args.system,
            on_stage=on_stage, **terminal.generation_options(args),
        )  # fmt: skip
    answer = None
    for line in _turns(sys.stdin.isatty() and not args.json):
        if line == "/new":
            session.forget()
            continue
        if line == "/receipt":
            text = summary(answer) if answer else "nothing was asked yet"
            terminal.console().print(text, style="dim", soft_wrap=True, markup=False)
            continue
        try:
            answer = _say(session, line, args.json)
        except PromptError as error:  # too long, say: the conversation can go on after /new
            terminal.console().print(f"error: {error}", style="red", soft_wrap=True, markup=False)
            if not sys.stdin.isatty():
                raise
    return 0


def _turns(prompt: bool) -> Iterator[str]:
    """Lines of standard input until an empty one."""
    while True:
        if prompt:
            terminal.console().print("[bold]you:[/] ", end="")
        line = sys.stdin.readline().strip()
        if not line:
            return
        yield line


def _say(session: Any, line: str, as_json: bool) -> Any:
    stream = session.stream_chat(line)
    for piece in stream:
        if not as_json:
            sys.stdout.write(piece)
            sys.stdout.flush()
    print(json.dumps(stream.answer.to_dict(), ensure_ascii=False) if as_json else "", flush=True)
    return stream.answer
