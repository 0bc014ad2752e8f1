"""`videollama2 data doctor RECORDS…`: what is wrong with training data, before a run finds out."""

import argparse
from pathlib import Path
from typing import Any

from ..errors import DataError
from . import terminal

_EPILOG = """examples:
  videollama2 data doctor train.jsonl                       media only
  videollama2 data doctor qa.csv --model nano               tokens and labels, too
  videollama2 data doctor shards/*.tar --output checked --workers 8 --timeout 30

It writes report.html, report.json, clean.jsonl (the records without a problem; of several files, clean-NAME.jsonl each)
and journal.jsonl into the output folder; started again, it goes on where it was. exit code 0: all is good; 3: problems
were found
"""


def register(commands: Any) -> None:
    """Add the command and its flags."""
    parser = commands.add_parser("data", help="look after training data", description="Look after training data.")
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    doctor = actions.add_parser(
        "doctor", help="find what is wrong with records and their media",
        description="Open every medium of training records, each in a process that can be killed, and count tokens.",
        epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = doctor.add_argument
    add("records", nargs="+", metavar="RECORDS", help=".json, .jsonl, .parquet, .csv or WebDataset .tar")
    add("--media-root", metavar="D", help="what media paths are relative to; default: each records file's folder")
    add("--sound", action="store_true", help="videos whose records don't say are used with their sound")
    add("--model", metavar="M", help="count tokens as this model does: nano, a released name, a hub id or a folder")
    add("--base", metavar="B", help="base model of a training stage's folder, or of nano")
    add("--max-length", type=int, metavar="N", help="most positions of a record; default: the model's context")
    add("--frames", type=int, metavar="N", help="frames of a video; default: the model's own number, else 8")
    add("--protocol", metavar="P", help="released, full or paper; default: the model's own, else full")
    add("--output", metavar="FOLDER", help="for the report; default: NAME.doctor here, after the first records file")
    add("--workers", type=int, default=0, metavar="N", help="processes that open media; default: one for each core")
    add("--timeout", type=float, default=60.0, metavar="S", help="seconds that one medium may take; default: 60")
    add("--memory", type=int, default=4096, metavar="MIB", help="memory that one medium may take; default: 4096")
    add("--verbose", "-v", action="store_true", help="say what is done")
    add("--json", action="store_true", help="print the report as one JSON object")
    doctor.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Examine and report; the exit code says whether problems were found."""
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
            sound=args.sound,
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
        terminal.write_json(as_json(found))
    else:
        print(terminal.harmless(table(found)))
        clean = ", ".join(str(path) for name, path in paths.items() if name.startswith("clean"))
        terminal.say(f"good records: {clean}; report: {paths['page']}")
    return DataError.exit_code if found.problems else 0


def _processor(model: str | None, base: str | None) -> Any:
    """The processor of a model, without its weights; None without a model."""
    if model is None:
        return None
    from ..loading import DEFAULT_MODEL, locate
    from ..processing import VideoLlama2Processor
    from ..weights import adapters

    folder, name = locate(model, base)
    whole = adapters.kind(folder) == "complete"
    tokenizer = folder if whole else adapters.tokenizer_folder(folder, None if name == DEFAULT_MODEL else base)
    return VideoLlama2Processor.from_pretrained(folder, tokenizer_folder=tokenizer)
