"""`videollama2 data doctor RECORDS…`: find problems in training data before a run does."""

import argparse
from pathlib import Path
from typing import Any

from ..errors import DataError
from . import terminal
from .arguments import former_name

_EPILOG = """examples:
  videollama2 data doctor train.jsonl                       media only
  videollama2 data doctor qa.csv --model nano               tokens and labels too
  videollama2 data doctor shards/*.tar --output checked --workers 8 --timeout 30

The output folder gets report.html, report.json, clean.jsonl (the records without problems; for several files,
clean-NAME.jsonl each) and journal.jsonl. An interrupted check resumes when the same command is run again.

exit code: 0 if no problems were found, 3 otherwise
"""


def register(commands: Any) -> None:
    """Add the command and its flags."""
    parser = commands.add_parser("data", help="check training data before a run", description="Check training data.")
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    doctor = actions.add_parser(
        "doctor", help="find problems in records and their media", epilog=_EPILOG,
        description="Open all media of training records in isolated workers, and count tokens.",
    )  # fmt: skip
    add = doctor.add_argument
    add("records", nargs="+", metavar="RECORDS", help=".json, .jsonl, .parquet, .csv or WebDataset .tar")
    add("--media-root", metavar="D", help="folder that media paths are relative to; default: that of each records file")
    add("--model", metavar="M", help="count tokens for this model: nano, a released name, a hub id or a folder")
    add("--base", metavar="B", help="base language model for nano or for a folder of a training stage")
    add("--max-length", type=int, metavar="N", help="maximum tokens of a record; default: the model's context")
    add("--frames", type=int, metavar="N", help="frames per video; default: the model's own number, or 8")
    add(
        "--protocol",
        metavar="P",
        help="media preprocessing; default: the model's own, or full",
    )
    add("--output", metavar="FOLDER", help="where reports go; default: NAME.doctor, NAME being the first records file")
    audio = add("--audio", action="store_true", help="use the audio of videos whose records don't say")
    former_name("--sound", audio, doctor)
    add("--workers", type=int, default=0, metavar="N", help="media workers; default: one per core")
    add("--timeout", type=float, default=60.0, metavar="S", help="time limit per media item, seconds; default: 60")
    add("--memory", type=int, default=4096, metavar="MIB", help="memory limit of a media worker; default: 4096")
    add("--verbose", "-v", action="store_true", help="log each step")
    add("--json", action="store_true", help="print the report as one JSON object")
    doctor.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Check and report; the exit code says whether problems were found."""
    terminal.log_to_terminal(args.verbose)
    with terminal.progress(args.json) as on_stage:
        on_stage("reading records")
        from ..data.doctor.examine import examine
        from ..data.doctor.report import as_json, table, write_report
        from ..data.records import read_records

        unread: list[tuple[str, str]] = []
        records = read_records(
            args.records,
            media_root=None if args.media_root is None else Path(args.media_root),
            sound=args.audio,
            on_bad=lambda origin, why: unread.append((origin, why)),
        )
        folder = Path(args.output or f"{Path(args.records[0]).stem}.doctor")
        found = examine(
            records, _processor(args.model, args.base), unread=unread, workers=args.workers, timeout_s=args.timeout,
            memory_mb=args.memory, folder=folder, max_length=args.max_length, frames=args.frames,
            protocol=args.protocol,
            on_progress=lambda what, done, total: on_stage(f"{what}: {done:,} of {total:,}"),
        )  # fmt: skip
        paths = write_report(found, folder, args.records)
    if args.json:
        terminal.print_json(as_json(found))
    else:
        print(terminal.harmless(table(found)))
        clean = ", ".join(str(path) for name, path in paths.items() if name.startswith("clean"))
        terminal.say(f"records without problems: {clean}; report: {paths['page']}")
    return DataError.exit_code if found.problems else 0


def _processor(model: str | None, base: str | None) -> Any:
    """The model's processor, without its weights; None without a model."""
    if model is None:
        return None
    from ..processing import VideoLlama2Processor
    from ..weights import stages
    from ..weights.locate import is_nano, locate

    folder, _ = locate(model, base)
    whole = stages.kind(folder) == "complete"
    tokenizer = folder if whole else stages.tokenizer_folder(folder, None if is_nano(model) else base)
    return VideoLlama2Processor.from_pretrained(folder, tokenizer_folder=tokenizer)
