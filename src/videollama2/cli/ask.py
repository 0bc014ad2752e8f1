"""`videollama2 ask MEDIA... QUESTION`."""

import argparse
from pathlib import Path
from typing import Any

from ..errors import UsageError
from ..remote import is_remote
from . import ahead, arguments, rows, terminal

_EPILOG = """examples:
  videollama2 ask clip.mp4 "What do you see and hear?"
  videollama2 ask clip.mp4 --start 1:05 --end 1:15 "What happens here?"
  videollama2 ask a.jpg b.jpg "What is different?"         several media items, in this order
  videollama2 ask song.flac "Which instrument is playing?"
  videollama2 ask "What is the opposite of hot?"           text only
  videollama2 ask clip.mp4 "What is it about?" --subtitles clip.srt
  videollama2 ask clip.mp4 "What do you hear?" --json      one JSON object: text, finish_reason, receipt, timings
  videollama2 ask clips rows.jsonl "What is it?" --out answers    one answer per file or row; resumable, as JSONL
"""
_MANIFESTS = (".jsonl", ".ndjson", ".json", ".parquet", ".tar")  # live/manifests.py


def register(commands: Any) -> None:
    """Add the command and its flags."""
    parser = commands.add_parser(
        "ask", help="answer a question about media", description="Answer a question about videos, audio and images.",
        usage="videollama2 ask [OPTION ...] [MEDIA ...] QUESTION", epilog=_EPILOG,
    )  # fmt: skip
    parser.add_argument("words", nargs="+", metavar="QUESTION", help="files or folders of frames, then the question")
    arguments.add_subtitle_flags(parser)
    parser.add_argument("--receipt", action="store_true", help="print what was used of the media after the answer")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    arguments.add_schema_flag(parser)
    arguments.add_model_flags(parser)
    arguments.add_media_flags(parser)
    arguments.add_generation_flags(parser)
    _add_job_flags(parser)
    parser.set_defaults(func=run)


def _add_job_flags(parser: Any) -> None:
    add = parser.add_argument_group("many files").add_argument
    add("--out", metavar="FOLDER", help="ask about every file, or row of a manifest; write FOLDER/answers.jsonl")
    rows.add_ray_flags(parser, add)
    add("--retry-failed", action="store_true", help="retry rows that failed")
    rows.add_worker_flags(parser.add_advanced_group("media workers").add_argument)


def run(args: argparse.Namespace) -> int:
    """Answer, streaming the text to standard output; with --out or --ray, about many files."""
    if args.out is not None or args.ray is not None or args.endpoint is not None:
        return _run_job(args)
    rows.check_ray_flags(args)
    *paths, question = args.words
    if not question.strip():
        raise UsageError("the question is empty; pass it as the last argument.")
    if arguments.exists(question):
        raise UsageError(
            f"the last argument, {question}, is a file; expected the question: videollama2 ask MEDIA... QUESTION."
        )
    listing = next((path for path in paths if path.lower().endswith(_MANIFESTS)), None)
    if listing is not None:
        raise UsageError(f"{listing} lists many files; add --out FOLDER to ask about each of them.")
    terminal.log_to_terminal(args.verbose)
    with terminal.progress(args.json) as on_stage:
        opener = ahead.decode_ahead(args, arguments.media_from(paths, args))
        arguments.trim_torch(args)
        from ..live.subtitle_prompts import open_with_subtitles, with_notes

        request = arguments.request_from(paths, question, args)
        subtitles = arguments.subtitles_from(args)
        engine = arguments.load_engine(args, on_stage)
        engine.opener = opener or engine.opener
        notes: list[str] = []
        if subtitles is None:
            stream = engine.stream(request, on_stage=on_stage)
        else:
            session, question, note = open_with_subtitles(engine, request, subtitles, on_stage)
            stream = session.stream(question)
            notes.append(note)
        for text in stream:
            if not args.json:
                terminal.write(text)
    answer = with_notes(stream.answer, *notes)
    if args.json:
        terminal.print_json(answer.to_dict())
        return 0
    terminal.write("\n")
    if args.receipt:
        terminal.say(receipt_text(answer), style="dim")
    return 0


def _run_job(args: argparse.Namespace) -> int:
    """Ask about every row, and report how many were answered."""
    arguments.trim_torch(args)
    from ..live.asking import LINES, ask_files
    from ..live.manifests import find_rows

    terminal.log_to_terminal(args.verbose)
    if args.subtitles is not None or args.receipt:
        raise UsageError("--subtitles and --receipt are for one question; drop them (answers.jsonl has the receipts).")
    *paths, question = args.words
    if not paths or arguments.exists(question) or is_remote(question):
        paths, question = args.words, ""  # each row has its own
    request, out = rows.row_request(question, args), Path(args.out or "answers")
    listed = find_rows(paths)
    with rows.engines(args, args.json) as engine, rows.counted(args, out, LINES) as on_file:
        done = ask_files(engine, listed, out, request, threads=args.threads, retry=args.retry_failed, on_file=on_file)
    return rows.report(args, done)


def receipt_text(answer: Any) -> str:
    """The receipt in a few lines."""
    receipt = answer.receipt
    lines = [f"{receipt.model} · protocol {receipt.protocol} · {receipt.device} {receipt.dtype}"]
    if receipt.weights:
        lines.append(f"language model: {receipt.engine}, {receipt.weights} ({receipt.arithmetic})")
    for entry in receipt.media:
        if hasattr(entry, "state"):
            used = f", {entry.used_seconds:.1f} of {entry.decoded_seconds:.1f} s" if entry.decoded_seconds else ""
            lines.append(f"audio {entry.source}: {entry.state}{used}, {entry.tokens} tokens")
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
