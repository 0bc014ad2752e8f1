"""`videollama2 ask MEDIA... QUESTION`."""

import argparse
from pathlib import Path
from typing import Any

from ..errors import UsageError
from . import terminal

_EPILOG = """examples:
  videollama2 ask clip.mp4 "What do you see and hear?"
  videollama2 ask clip.mp4 --start 1:05 --end 1:15 "What happens here?"
  videollama2 ask a.jpg b.jpg "What differs?"              several media, in the order of the line
  videollama2 ask song.flac "Which instrument plays?"
  videollama2 ask "What is the capital of France?"         text only
  videollama2 ask clip.mp4 "What is it about?" --subtitles clip.srt    with what is said, as subtitles have it
  videollama2 ask clip.mp4 "What is said?" --json          one JSON object: text, finish_reason, receipt, timings
"""


def register(commands: Any) -> None:
    """Add the command and its flags."""
    parser = commands.add_parser(
        "ask", help="a question about media", description="Ask a question about videos, sounds and pictures.",
        usage="videollama2 ask [OPTION ...] [MEDIA ...] QUESTION",
        epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument(
        "words", nargs="+", metavar="QUESTION", help="files or folders of frames, and last the question"
    )
    terminal.add_model_flags(parser)
    terminal.add_media_flags(parser)
    terminal.add_generation_flags(parser)
    parser.add_argument("--subtitles", metavar="FILE", help="an .srt or .vtt file with what is said in the medium")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the text")
    parser.add_argument("--receipt", action="store_true", help="after the answer, say what was seen and heard")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Answer, streaming the text to standard output."""
    from ..live.subtitled import noted, opened_with
    from ..subtitles import read_subtitles

    *paths, question = args.words
    if not question.strip():
        raise UsageError("the question is empty; expected it as the last word of the command")
    if terminal.exists(question):
        raise UsageError(f"{question} is a file, where the question is expected: videollama2 ask MEDIA... QUESTION")
    terminal.log_to_terminal(args.verbose)
    with terminal.progress(args.json) as on_stage:
        request = terminal.request(paths, question, args)
        said = None if args.subtitles is None else read_subtitles(Path(args.subtitles))
        engine = terminal.load_engine(args, on_stage)
        notes: list[str] = []
        if said is None:
            stream = engine.stream(request, on_stage=on_stage)
        else:
            session, question, note = opened_with(engine, request, said, on_stage)
            stream = session.stream(question)
            notes.append(note)
        for piece in stream:
            if not args.json:
                terminal.write(piece)
    answer = noted(stream.answer, *notes)
    if args.json:
        terminal.write_json(answer.to_dict())
        return 0
    terminal.write("\n")
    if args.receipt:
        terminal.say(summary(answer), style="dim")
    return 0


def summary(answer: Any) -> str:
    """The receipt in a few lines."""
    receipt = answer.receipt
    lines = [f"{receipt.model} · protocol {receipt.protocol} · {receipt.device} {receipt.dtype}"]
    for entry in receipt.media:
        if hasattr(entry, "state"):
            used = f", {entry.used_seconds:.1f} of {entry.decoded_seconds:.1f} s" if entry.decoded_seconds else ""
            lines.append(f"sound {entry.source}: {entry.state}{used}, {entry.tokens} tokens")
        else:
            lines.append(
                f"{entry.kind} {entry.source}{_range(entry)}: {entry.frames_used} of {entry.frames_total} frames, "
                f"{entry.tokens} tokens"
            )
        lines += [f"  note: {note}" for note in entry.notes]
    lines += [f"note: {note}" for note in receipt.notes]
    lines.append(
        f"{receipt.prompt_tokens} prompt + {receipt.generated_tokens} new tokens in "
        f"{answer.timings['total_seconds']:.2f} s ({answer.finish_reason})"
    )
    return "\n".join(lines)


def _range(entry: Any) -> str:
    if entry.range_seconds is None:
        return ""
    return " from {:g} to {:g} s".format(*entry.range_seconds)
