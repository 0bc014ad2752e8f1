"""`videollama2 caption FOLDER|FILE|MANIFEST… --out FOLDER`."""

import argparse
from pathlib import Path
from typing import Any

from ..errors import UsageError
from ..remote import is_remote
from . import arguments, rows, terminal

_EPILOG = """examples:
  videollama2 caption clips --out captions                    every video and audio file below clips
  videollama2 caption a.mp4 b.mkv --window 5 --format vtt
  videollama2 caption clips --whole "What do you hear?"       one caption per file, answering your own question
  videollama2 caption clips --retry-failed
  videollama2 caption rows.jsonl                              {"id": …, "video": PATH} per line; also .parquet, .tar
  videollama2 caption s3://bucket/rows.parquet --ray auto     on a Ray cluster, one engine per GPU

OUT/captions.jsonl has one line per file with its captions and receipts, or the error; OUT/clip.srt has the captions of
clip.mp4 with their times. An interrupted run resumes when the same command is run again.

exit code: 0 if every window was captioned; 3 if some failed (captions.jsonl has the errors)
"""
QUESTION = "Describe what you see and hear in one sentence."


def register(commands: Any) -> None:
    """Add the command and its flags."""
    parser = commands.add_parser(
        "caption", help="caption many files", description="Write timed captions for video and audio files.",
        usage="videollama2 caption [OPTION ...] FOLDER|FILE|MANIFEST ... [QUESTION]", epilog=_EPILOG,
    )  # fmt: skip
    add = parser.add_argument
    add("words", nargs="+", metavar="FOLDER|FILE|MANIFEST",
        help="files, folders, manifests (.jsonl, .parquet, .tar) to caption, then optionally a question")  # fmt: skip
    add("--out", default="captions", metavar="FOLDER", help="output folder; default: captions")
    add("--window", type=arguments.seconds, default=10.0, metavar="S", help="seconds per caption; default: 10")
    add("--overlap", type=arguments.seconds, default=0.0, metavar="S", help="seconds shared by adjacent windows")
    add("--whole", action="store_true", help="one caption per file instead of windows")
    add("--summary", action="store_true", help="also merge the captions of a file into a summary")
    add("--format", default="srt", metavar="F,…", help="subtitle files: srt (default), vtt, srt,vtt or none")
    rows.add_ray_flags(parser, add)
    add("--retry-failed", action="store_true", help="retry files that failed wholly or partly")
    add("--quiet", "-q", action="store_true", help="no progress")
    add("--json", action="store_true", help="print the counts as one JSON object")
    arguments.add_schema_flag(parser)
    arguments.add_model_flags(parser)
    arguments.add_media_flags(parser)
    arguments.add_generation_flags(parser)
    rows.add_worker_flags(parser.add_argument_group("advanced").add_argument)
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Caption the files and report how many succeeded."""
    arguments.trim_torch(args)
    from ..live.captioning import LINES, caption_files
    from ..live.manifests import find_rows

    terminal.log_to_terminal(args.verbose)
    paths, question = split(args.words, QUESTION)
    suffixes, out = formats(args.format), Path(args.out)
    if args.summary and args.endpoint is not None:
        raise UsageError("--summary is made by an engine of this package; drop it, or run without --endpoint.")
    request = rows.row_request(question, args)
    listed = find_rows(paths)
    with rows.engines(args, args.quiet or args.json) as engine, rows.counted(args, out, LINES) as on_file:
        done = caption_files(
            engine, listed, out, request, window=None if args.whole else args.window,
            overlap=args.overlap, summary=args.summary, formats=suffixes, threads=args.threads,
            retry=args.retry_failed, on_file=on_file,
        )  # fmt: skip
    return rows.report(args, done)


def split(words: list[str], default: str) -> tuple[list[str], str]:
    """The paths and the question: the last word if it is not a file and has spaces or a question mark."""
    last = words[-1]
    listed = arguments.exists(last) or is_remote(last)
    text = len(words) > 1 and not listed and (" " in last.strip() or last.strip().endswith("?"))
    return (words[:-1], last) if text else (words, default)


def formats(text: str) -> tuple[str, ...]:
    """Suffixes of "srt,vtt".

    Raises:
        UsageError: another format.
    """
    from ..subtitles import FORMATS

    wanted = tuple(dict.fromkeys(f".{part.strip().lower()}" for part in text.split(",")))
    if wanted == (".none",):
        return ()
    if unknown := [suffix[1:] for suffix in wanted if suffix not in FORMATS]:
        raise UsageError(f"--format {', '.join(unknown)}; expected srt, vtt, srt,vtt or none.")
    return wanted
