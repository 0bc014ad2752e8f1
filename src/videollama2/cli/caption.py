"""`videollama2 caption FOLDER|FILE… --out FOLDER`."""

import argparse
from pathlib import Path
from typing import Any

from ..errors import MediaError, UsageError, VideoLlama2Error
from . import arguments, terminal

_EPILOG = """examples:
  videollama2 caption clips --out captions                    every video and audio file below clips
  videollama2 caption a.mp4 b.mkv --window 5 --format vtt
  videollama2 caption clips --whole "What do you hear?"       one caption per file, answering your own question
  videollama2 caption clips --retry-failed

OUT/captions.jsonl has one line per file with its captions and receipts, or the error; OUT/clip.srt has the captions of
clip.mp4 with their times. An interrupted run resumes when the same command is run again.

exit code: 0 if every window was captioned; 3 if some failed (captions.jsonl has the errors)
"""
QUESTION = "Describe what you see and hear in one sentence."


def register(commands: Any) -> None:
    """Add the command and its flags."""
    parser = commands.add_parser(
        "caption", help="caption many files", description="Write timed captions for video and audio files.",
        usage="videollama2 caption [OPTION ...] FOLDER|FILE ... [QUESTION]", epilog=_EPILOG,
    )  # fmt: skip
    add = parser.add_argument
    add("words", nargs="+", metavar="FOLDER|FILE", help="files and folders to caption, then optionally a question")
    add("--out", default="captions", metavar="FOLDER", help="output folder; default: captions")
    add("--window", type=arguments.seconds, default=10.0, metavar="S", help="seconds per caption; default: 10")
    add("--overlap", type=arguments.seconds, default=0.0, metavar="S", help="seconds shared by adjacent windows")
    add("--whole", action="store_true", help="one caption per file instead of windows")
    add("--summary", action="store_true", help="also merge the captions of a file into a summary")
    add("--format", default="srt", metavar="F,…", help="subtitle files: srt (default), vtt, srt,vtt or none")
    add("--retry-failed", action="store_true", help="retry files that failed wholly or partly")
    add("--quiet", "-q", action="store_true", help="no progress")
    add("--json", action="store_true", help="print the counts as one JSON object")
    arguments.add_schema_flag(parser)
    arguments.add_model_flags(parser)
    arguments.add_media_flags(parser)
    arguments.add_generation_flags(parser)
    add = parser.add_argument_group("advanced").add_argument
    add("--threads", type=int, default=2, metavar="N", help="files in progress at once; default: 2")
    add("--timeout", type=float, default=120.0, metavar="S", help="time limit per window, seconds; default: 120")
    add("--memory", type=int, default=4096, metavar="MIB", help="memory limit of a media worker; default: 4096")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Caption the files and report how many succeeded."""
    arguments.trim_torch(args)
    from ..live.captioning import DONE, FAILED, PARTLY, caption_files
    from ..live.files import find_files
    from ..media.worker import WorkerLimits, WorkerPool

    terminal.log_to_terminal(args.verbose)
    paths, question = split(args.words, QUESTION)
    listed = find_files(paths)
    request = arguments.request_from([str(listed[0].path)], question, args)
    suffixes = formats(args.format)
    limits = WorkerLimits(seconds=args.timeout, cpu_seconds=8 * args.timeout, memory_mb=args.memory)
    quiet, out = args.quiet or args.json, Path(args.out)
    with terminal.progress(quiet) as on_stage:
        workers = WorkerPool(workers=args.threads, worker_limits=limits)
        engine = arguments.load_engine(args, on_stage, isolate=workers)
    with (
        terminal.counting("file", quiet=quiet) as update,
        terminal.without_losses(args.verbose),
        terminal.resumable(out, "captions.jsonl", VideoLlama2Error),
    ):
        failed = 0

        def on_file(line: dict[str, Any], done: int, total: int) -> None:
            nonlocal failed
            failed += line["status"] != DONE
            if update is not None:
                update(done, total, line["file"] + (f", {failed} failed" if failed else ""))

        done = caption_files(
            engine, listed, out, request, window=None if args.whole else args.window,
            overlap=args.overlap, summary=args.summary, formats=suffixes, threads=args.threads,
            retry=args.retry_failed, on_file=on_file,
        )  # fmt: skip
    counted = {status: done.counted(status) for status in (DONE, PARTLY, FAILED)}
    if args.json:
        terminal.print_json({**counted, "reused": done.reused, "folder": str(done.folder)})
    else:
        for line in done.lines:
            if line["status"] != DONE:
                terminal.complain(f"{line['file']}: {why(line)}")
        words = ", ".join(f"{count} {status}" for status, count in counted.items() if count)
        terminal.say(f"{len(done.lines)} files: {words} ({done.reused} reused); {done.folder}/captions.jsonl")
    return 0 if counted[DONE] == len(done.lines) else MediaError.exit_code


def split(words: list[str], default: str) -> tuple[list[str], str]:
    """The paths and the question: the last word if it is not a file and has spaces or a question mark."""
    last = words[-1]
    text = len(words) > 1 and not arguments.exists(last) and (" " in last.strip() or last.strip().endswith("?"))
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
        raise UsageError(f"--format {', '.join(unknown)}; expected srt, vtt, srt,vtt or none")
    return wanted


def why(line: dict[str, Any]) -> str:
    """Why a file lacks captions."""
    if line["error"] is not None:
        return f"{line['error']['type']}: {line['error']['message']}"
    missing = [c for c in line["captions"] if c["error"] is not None]
    return f"{len(missing)} of {len(line['captions'])} windows failed: {missing[0]['error']}"
