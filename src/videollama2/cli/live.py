"""`videollama2 live SOURCE [QUESTION]`: a camera, an RTSP address, a pipe or a file, and its last seconds."""

import argparse
import math
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..errors import EmptyMedia, PromptError, UsageError
from . import terminal

if TYPE_CHECKING:
    from ..live.reader import Reader
    from ..live.stream import Stream
    from ..receipt import Answer

_EPILOG = """sources:
  camera, camera:1                  a camera of this machine
  rtsp://user:word@camera/main      an address on your network
  -                                 standard input; also the path of a named pipe
  clip.mkv                          a file, at the speed at which it plays

examples:
  videollama2 live camera "What happens?" --every 5
  videollama2 live rtsp://camera.local/main "Is anyone at the door?" --seconds 6 --every 3 --json
  ffmpeg -i INPUT -f matroska - | videollama2 live - "What happens?" --every 5
  videollama2 live clip.mp4                    without a question: type them, each is about the last 10 seconds
"""


def register(commands: Any) -> None:
    """Add the command and its flags."""
    parser = commands.add_parser(
        "live", help="questions about what goes on now", description="Ask about the last seconds of a live source.",
        epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("source", metavar="SOURCE", help="camera, rtsp://…, - or a path")
    parser.add_argument("question", nargs="?", metavar="QUESTION", help="asked again and again; without it, type some")
    add = parser.add_argument
    add(
        "--seconds",
        type=terminal.seconds,
        default=10.0,
        metavar="S",
        help="how far back a question reaches; default: 10",
    )
    add("--every", type=terminal.seconds, default=5.0, metavar="S", help="seconds between questions; default: 5")
    add("--speed", type=float, default=1.0, metavar="X", help="how much faster than it plays a file is read; "
        "default: 1; inf: as fast as it goes")  # fmt: skip
    add("--json", action="store_true", help="print one JSON object for each answer")
    add("--protocol", metavar="P", help="how media are prepared; default: the model's own")
    add("--frames", type=int, metavar="N", help="frames to look at; default: the model's own number")
    add("--no-audio", action="store_true", help="do not listen")
    add("--no-video", action="store_true", help="do not look")
    terminal.add_model_flags(parser)
    terminal.add_generation_flags(parser)
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Read the source in a thread; ask on time, or what is typed."""
    from ..live.reader import Reader
    from ..live.stream import Stream

    terminal.log_to_terminal(args.verbose)
    if args.source == "-" and args.question is None:
        raise UsageError("standard input holds the source; say the question on the command line")
    if math.isnan(args.speed):
        raise UsageError("--speed nan; expected more than 0")
    wishes = asked(args)
    with terminal.progress(args.json) as on_stage:
        engine = terminal.load_engine(args, on_stage)
        on_stage("thinking")  # from here on it is the user's terminal
    stream = Stream(engine, seconds=args.seconds, name=args.source if "@" not in args.source else "<live>")
    source = sys.stdin.buffer if args.source == "-" else args.source
    reader = Reader(source, stream, speed=args.speed, video=not args.no_video, audio=not args.no_audio)
    with terminal.without_losses(args.verbose), reader:
        if args.question is None:
            _typed(stream, reader, args, wishes)
        else:
            _on_time(stream, reader, args, wishes)
    return 0


def asked(args: argparse.Namespace) -> dict[str, Any]:
    """How each question is asked; wrong values are told before a model is loaded."""
    from ..generation.sampling import GenerateOptions
    from ..protocols import protocol

    options = GenerateOptions(
        max_new_tokens=args.max_new_tokens, temperature=args.temperature, top_p=args.top_p, seed=args.seed
    )
    chosen = None if args.protocol is None else protocol(args.protocol)
    return {"options": options, "protocol": chosen, "system": args.system, "num_frames": args.frames,
            "video": not args.no_video, "audio": not args.no_audio}  # fmt: skip


def _on_time(stream: "Stream", reader: "Reader", args: argparse.Namespace, wishes: dict[str, Any]) -> None:
    from ..live.asking import every

    for moment in every(stream, reader, args.question, args.every, **wishes):
        told = {"start": moment.start, "end": moment.end, "late": moment.late}
        _show(moment.answer, moment.end, args.json, told)


def _typed(stream: "Stream", reader: "Reader", args: argparse.Namespace, wishes: dict[str, Any]) -> None:
    """Questions from standard input, until it or the source ends."""
    for question in _questions(reader):
        try:
            answer = stream.ask(question, **wishes)
        except (EmptyMedia, PromptError) as error:  # nothing came yet; too long a question
            terminal.complain(str(error))
            continue
        now = stream.now or 0.0
        _show(answer, now, args.json, {"end": now})
    reader.check()


def _questions(reader: "Reader") -> Iterator[str]:
    while True:
        if sys.stdin.isatty():
            terminal.console().print("you: ", style="bold", end="")
        line = sys.stdin.readline()
        if not line:
            return
        reader.check()
        if line.strip():
            yield line.strip()
        if reader.ended.is_set():
            terminal.say("the source has ended; questions are about its last seconds", style="dim")


def _show(answer: "Answer", second: float, as_json: bool, told: dict[str, Any]) -> None:
    from ..live.merging import clock

    if as_json:
        terminal.write_json({**told, **answer.to_dict()})
    else:
        terminal.write(f"[{clock(second)}] {' '.join(answer.text.split())}\n")
