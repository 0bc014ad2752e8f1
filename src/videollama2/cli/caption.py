"""`videollama2 caption FOLDER|FILE… --out FOLDER`."""

import argparse
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import MediaError, VideoLlama2Error
from . import terminal

_EPILOG = """examples:
  videollama2 caption clips --out captions                    every video and sound below clips
  videollama2 caption a.mp4 b.mkv --window 5 --format vtt
  videollama2 caption clips --whole "What is heard?"          one caption for each file, of a question of your own
  videollama2 caption clips --retry-failed                    what failed before, again

OUT/captions.jsonl has one line a file, with its captions, receipts, or why there are none; OUT/clip.srt its captions
with their times. Started again with the same words, a run that was stopped goes on where it was.

exit code: 0 all files have all their captions; 3 some have not, and captions.jsonl says why
"""
QUESTION = "Describe what you see and hear in one sentence."


def register(commands: Any) -> None:
    """Add the command and its flags."""
    parser = commands.add_parser(
        "caption", help="captions of many files", description="Caption videos and sounds, with times.",
        usage="videollama2 caption [OPTION ...] FOLDER|FILE ... [QUESTION]",
        epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = parser.add_argument
    add("words", nargs="+", metavar="FOLDER|FILE", help="what to caption; a last word that is no file is the question")
    add("--out", default="captions", metavar="FOLDER", help="where captions go; default: captions")
    add("--window", type=terminal.seconds, default=10.0, metavar="S", help="seconds of a caption; default: 10")
    add(
        "--overlap", type=terminal.seconds, default=0.0, metavar="S", help="seconds a window shares with the one before"
    )
    add("--whole", action="store_true", help="one caption for each file")
    add("--summary", action="store_true", help="merge a file's captions to a summary as well")
    add("--format", default="srt", metavar="F,…", help="subtitle files: srt (default), vtt, srt,vtt or none")
    add("--threads", type=int, default=2, metavar="N", help="files on their way at once; default: 2")
    add("--timeout", type=float, default=120.0, metavar="S", help="seconds that decoding one window may take; default: "
        "120")  # fmt: skip
    add("--memory", type=int, default=4096, metavar="MIB", help="memory that decoding it may take; default: 4096")
    add("--retry-failed", action="store_true", help="try files again that failed before, in part or whole")
    add("--quiet", "-q", action="store_true", help="no progress")
    add("--json", action="store_true", help="print one JSON object that counts the files")
    terminal.add_model_flags(parser)
    terminal.add_media_flags(parser)
    terminal.add_generation_flags(parser)
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Caption; say what became of the files."""
    from ..live.captioning import DONE, FAILED, PARTLY, caption
    from ..live.files import jobs
    from ..media.worker import WorkerLimits, WorkerPool

    terminal.log_to_terminal(args.verbose)
    paths, question = split(args.words, QUESTION)
    listed = jobs(paths)
    request = terminal.request([str(listed[0].path)], question, args)
    suffixes = formats(args.format)
    limits = WorkerLimits(seconds=args.timeout, cpu_seconds=8 * args.timeout, memory_mb=args.memory)
    with terminal.progress(args.quiet or args.json) as on_stage:
        engine = terminal.load_engine(args, on_stage, isolate=WorkerPool(workers=args.threads, worker_limits=limits))
    out = Path(args.out)
    with _progress(quiet=args.quiet or args.json) as told, terminal.without_losses(args.verbose), _kept(out):
        done = caption(
            engine, listed, out, request, window=None if args.whole else args.window,
            overlap=args.overlap, summary=args.summary, formats=suffixes, threads=args.threads,
            retry=args.retry_failed, on_file=told,
        )  # fmt: skip
    counted = {status: done.counted(status) for status in (DONE, PARTLY, FAILED)}
    if args.json:
        terminal.write_json({**counted, "reused": done.reused, "folder": str(done.folder)})
    else:
        for line in done.lines:
            if line["status"] != DONE:
                terminal.complain(f"{line['file']}: {why(line)}")
        words = ", ".join(f"{count} {status}" for status, count in counted.items() if count)
        terminal.say(f"{len(done.lines)} files: {words} ({done.reused} from before); {done.folder}/captions.jsonl")
    return 0 if counted[DONE] == len(done.lines) else MediaError.exit_code


def split(words: list[str], otherwise: str) -> tuple[list[str], str]:
    """Paths, and the question where the last word is none: one of several words, or with a question mark."""
    last = words[-1]
    is_question = len(words) > 1 and not terminal.exists(last) and (" " in last.strip() or last.strip().endswith("?"))
    return (words[:-1], last) if is_question else (words, otherwise)


def formats(text: str) -> tuple[str, ...]:
    """Suffixes of "srt,vtt".

    Raises:
        UsageError: another format.
    """
    from ..errors import UsageError
    from ..subtitles import FORMATS

    wanted = tuple(dict.fromkeys(f".{part.strip().lower()}" for part in text.split(",")))
    if wanted == (".none",):
        return ()
    if unknown := [suffix[1:] for suffix in wanted if suffix not in FORMATS]:
        raise UsageError(f"--format {', '.join(unknown)}; expected srt, vtt, srt,vtt or none")
    return wanted


def why(line: dict[str, Any]) -> str:
    """Of a file without all its captions, what is wrong with it."""
    if line["error"] is not None:
        return f"{line['error']['type']}: {line['error']['message']}"
    missing = [c for c in line["captions"] if c["error"] is not None]
    return f"{len(missing)} of {len(line['captions'])} windows: {missing[0]['error']}"


@contextlib.contextmanager
def _kept(out: Path) -> Iterator[None]:
    """Who interrupts a run, or meets an error, is told that nothing is lost."""
    try:
        yield
    except (KeyboardInterrupt, VideoLlama2Error):
        if (out / "captions.jsonl").is_file():
            terminal.say(f"what is captioned stays in {out}; the same command goes on from there")
        raise


@contextlib.contextmanager
def _progress(*, quiet: bool) -> Iterator[Any]:
    """A bar, or lines, of the files that are done; yields what `caption` tells."""
    if quiet:
        yield None
        return
    from ..progress import Progress, begin

    shown: list[Progress] = []
    failed = 0

    def told(line: dict[str, Any], done: int, total: int) -> None:
        nonlocal failed
        if not shown:
            shown.append(begin(done - 1, total, "file"))
        failed += line["status"] != "done"
        shown[0].update(done, terminal.harmless(line["file"]) + (f", {failed} failed" if failed else ""))

    try:
        yield told
    finally:
        for bar in shown:
            bar.close()
