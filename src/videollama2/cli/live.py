"""`videollama2 live SOURCE [QUESTION]`: ask about the last seconds of a camera, RTSP stream, pipe or file."""

import argparse
import math
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..errors import EmptyMedia, PromptError, UsageError
from . import arguments, terminal

if TYPE_CHECKING:
    from ..live.reader import StreamReader
    from ..live.stream import LiveStream
    from ..receipt import Answer

_EPILOG = """sources:
  camera, camera:1                  a local camera
  rtsp://user:word@camera/main      a network camera
  -                                 standard input; a named pipe works too, by its path
  clip.mkv                          a file, read at playback speed

examples:
  videollama2 live camera "What happens?" --every 5
  videollama2 live rtsp://camera.local/main "Is anyone at the door?" --seconds 6 --every 3 --json
  ffmpeg -i INPUT -f matroska - | videollama2 live - "What happens?" --every 5
  videollama2 live clip.mp4                    type your questions; each is about the last 10 seconds
"""


def register(commands: Any) -> None:
    """Add the command and its flags."""
    parser = commands.add_parser(
        "live", help="ask about a live source", description="Ask about the last seconds of a live source.",
        epilog=_EPILOG,
    )  # fmt: skip
    parser.add_argument("source", metavar="SOURCE", help="camera, rtsp://…, - or a path")
    parser.add_argument("question", nargs="?", metavar="QUESTION", help="question to repeat; default: type questions")
    add = parser.add_argument
    add(
        "--seconds",
        type=arguments.seconds,
        default=10.0,
        metavar="S",
        help="seconds of media that each answer covers; default: 10",
    )
    add("--every", type=arguments.seconds, default=5.0, metavar="S", help="seconds between questions; default: 5")
    add("--speed", type=float, default=1.0, metavar="X", help="playback speed of a file; default: 1; inf: no delay")
    add("--json", action="store_true", help="print one JSON object per answer")
    add("--protocol", metavar="P", help="media preprocessing: released, full or paper; default: the model's own")
    add("--frames", type=int, metavar="N", help="number of video frames to sample; default: the model's")
    add("--no-audio", action="store_true", help="ignore the audio")
    add("--no-video", action="store_true", help="ignore the video")
    arguments.add_model_flags(parser)
    arguments.add_generation_flags(parser)
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Read the source in a thread; ask the question at intervals, or the questions that the user types."""
    arguments.trim_torch(args)
    from ..live.reader import StreamReader
    from ..live.stream import LiveStream

    terminal.log_to_terminal(args.verbose)
    if args.source == "-" and args.question is None:
        raise UsageError("standard input is the source; pass the question on the command line.")
    if math.isnan(args.speed):
        raise UsageError("--speed nan; expected more than 0.")
    choices = question_options(args)
    with terminal.progress(args.json) as on_stage:
        engine = arguments.load_engine(args, on_stage)
        on_stage("thinking")  # from here on the terminal is the user's
    stream = LiveStream(engine, seconds=args.seconds, name=args.source if "@" not in args.source else "<live>")
    source = sys.stdin.buffer if args.source == "-" else args.source
    reader = StreamReader(source, stream, speed=args.speed, video=not args.no_video, audio=not args.no_audio)
    with terminal.without_losses(args.verbose), reader:
        if args.question is None:
            _typed(stream, reader, args, choices)
        else:
            _on_time(stream, reader, args, choices)
    return 0


def question_options(args: argparse.Namespace) -> dict[str, Any]:
    """Keywords of the stream's `ask`, validated before a model is loaded."""
    from ..protocols import protocol

    options = arguments.generate_options(args)
    chosen = None if args.protocol is None else protocol(args.protocol)
    return {"options": options, "protocol": chosen, "system": args.system, "num_frames": args.frames,
            "video": not args.no_video, "audio": not args.no_audio}  # fmt: skip


def _on_time(stream: "LiveStream", reader: "StreamReader", args: argparse.Namespace, choices: dict[str, Any]) -> None:
    from ..live.reader import ask_every

    for found in ask_every(stream, reader, args.question, args.every, **choices):
        times = {"start": found.start, "end": found.end, "late": found.late}
        _show(found.answer, found.end, args.json, times)


def _typed(stream: "LiveStream", reader: "StreamReader", args: argparse.Namespace, choices: dict[str, Any]) -> None:
    """Questions from standard input, until it or the source ends."""
    for question in _questions(reader):
        try:
            answer = stream.ask(question, **choices)
        except (EmptyMedia, PromptError) as error:  # no media yet, or too long a question
            terminal.complain(str(error))
            continue
        now = stream.now or 0.0
        _show(answer, now, args.json, {"end": now})
    reader.check()


def _questions(reader: "StreamReader") -> Iterator[str]:
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
            terminal.say("the source has ended; you can still ask about its last seconds", style="dim")


def _show(answer: "Answer", second: float, as_json: bool, times: dict[str, Any]) -> None:
    from ..live.windows import clock_time

    if as_json:
        terminal.print_json({**times, **answer.to_dict()})
    else:
        terminal.write(f"[{clock_time(second)}] {' '.join(answer.text.split())}\n")
