"""`videollama2 data`: build training sets from official files, list them, and check records before a run."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DataError, UsageError
from . import terminal
from .arguments import former_name

if TYPE_CHECKING:
    from ..data.records import Record

_BUILD = """examples:
  videollama2 data build music-avqa --annotations MUSIC-AVQA/ --media videos/ --output sets/
  videollama2 data build panda-70m --annotations panda70m_training_2m.csv --media shards/ -o sets
  videollama2 train av_joint --recipe recipes/2.1-7b-av.toml --sets sets/ --dry-run

SETS/NAME gets records.jsonl (the records whose media were found), missing.jsonl (the others) and manifest.json (what
was read, kept and dropped, and why). Media are looked for by name in all folders below --media, in .tar shards, too.
"""
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
    parser = commands.add_parser(
        "data", help="build and check training data", description="Build training sets, and check training data."
    )
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
    add("--revision", metavar="R", help="branch, tag or commit of a hub id; default: main branch")
    add("--max-length", type=int, metavar="N", help="maximum tokens of a record; default: the model's context")
    add("--frames", type=int, metavar="N", help="frames per video; default: the model's own number, or 8")
    add(
        "--protocol",
        metavar="P",
        help="media preprocessing; default: the model's own, or full",
    )
    add(
        "--sample",
        type=int,
        metavar="N",
        help="check only N records, at random; of built sets only they are read",
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
    _add_build(actions)
    _add_list(actions)
    _add_fetch_list(actions)


def _add_build(actions: Any) -> None:
    parser = actions.add_parser(
        "build", help="build a training set from its official annotations", epilog=_BUILD,
        description="Write a training set's records, from the files that its authors publish and the media you have.",
    )  # fmt: skip
    add = parser.add_argument
    add("sets", nargs="+", metavar="SET", help="names of sets (`videollama2 data list`)")
    add(
        "--annotations",
        type=Path,
        required=True,
        metavar="PATH",
        help="folder of the official annotations, or one file",
    )
    add("--media", type=Path, nargs="+", default=[], metavar="FOLDER",
        help="folders of media files or .tar shards; default: the annotations' folder")  # fmt: skip
    add(
        "--output",
        "-o",
        type=Path,
        required=True,
        metavar="SETS",
        help="folder of built sets; each gets a folder in it",
    )
    add("--seed", type=int, default=0, metavar="N", help="seed of the subset; default: 0")
    add(
        "--share",
        type=float,
        metavar="S",
        help="share of the records to keep, 0 to 1; default: as much as the paper used",
    )
    add("--json", action="store_true", help="print the manifests as JSON, one per line")
    add("--verbose", "-v", action="store_true", help="print tracebacks of errors")
    parser.set_defaults(func=run_build)


def _add_list(actions: Any) -> None:
    parser = actions.add_parser(
        "list", help="list the training sets", description="The recipe's training sets: files, numbers, licences."
    )
    add = parser.add_argument
    add("sets", nargs="*", metavar="SET", help="show all about these sets")
    add("--sets", dest="built", type=Path, metavar="SETS", help="folder of built sets: also show what is built")
    add("--annotations", type=Path, metavar="PATH", help="show which files here would be read")
    add("--json", action="store_true", help="print JSON, one set per line")
    add("--verbose", "-v", action="store_true", help="print tracebacks of errors")
    parser.set_defaults(func=run_list)


def _add_fetch_list(actions: Any) -> None:
    parser = actions.add_parser(
        "fetch-list", help="write a downloader's list of missing media",
        description="Write the missing media of a built set as the input of a downloader. Nothing is downloaded.",
    )  # fmt: skip
    add = parser.add_argument
    add("built", type=Path, metavar="SETS/NAME", help="folder of a built set")
    add("--for", dest="tool", required=True, metavar="TOOL", help="video2dataset, img2dataset, yt-dlp or names")
    add("--output", "-o", type=Path, required=True, metavar="FILE", help="file to write")
    add("--verbose", "-v", action="store_true", help="print tracebacks of errors")
    parser.set_defaults(func=run_fetch_list)


def run_build(args: argparse.Namespace) -> int:
    """Build each set, and print what became of its rows."""
    from ..data.sets.build import build_set
    from ..data.sets.registry import training_set

    if args.share is not None and not 0 < args.share <= 1:
        raise UsageError(f"--share is {args.share:g}; expected more than 0, up to 1.")
    chosen = [training_set(name) for name in args.sets]
    for each in chosen:
        with terminal.progress(args.json) as on_stage:
            manifest = build_set(
                each, args.annotations, args.media, args.output, seed=args.seed, share=args.share,
                on_progress=lambda what, done: on_stage(f"{what}: {done:,} rows" if done else what),
            )  # fmt: skip
        terminal.print_json(manifest) if args.json else terminal.write(terminal.harmless(_built(manifest)) + "\n")
    return 0


def _built(manifest: dict[str, Any]) -> str:
    published, paper = (manifest[key] for key in ("published", "paper"))
    lines = [
        f"{manifest['set']}: {manifest['kept']:,} records",
        f"  read {manifest['rows']:,} rows with {manifest['records']:,} records"
        + ("" if published is None else f"; published are {published:,}")
        + ("" if paper is None else f"; the paper used {paper:,}"),
    ]
    if manifest["held_out"]:
        lines.append(f"  careful: {', '.join(manifest['held_out'])} is named as a file for evaluation")
    for count, what in (
        (manifest["outside_the_share"], "not in the share"),
        (manifest["missing_media"], "media missing"),
    ):
        lines += [f"  {count:,}: {what}"] if count else []
    for reason, count in manifest["dropped"].items():
        lines.append(f"  {count:,}: {reason} ({manifest['examples'][reason][0]})")
    return "\n".join(lines)


def run_list(args: argparse.Namespace) -> int:
    """Print the sets."""
    from ..data.sets.listing import details, set_facts, sets_table
    from ..data.sets.registry import training_set, training_sets

    chosen = [training_set(name) for name in args.sets] or list(training_sets().values())
    if args.json:
        for each in chosen:
            terminal.print_json(set_facts(each, args.built))
    elif args.sets:
        terminal.write("\n".join(terminal.harmless(details(each, args.annotations)) for each in chosen) + "\n")
    else:
        terminal.write(sets_table(chosen, args.built) + "\n")
    return 0


def run_fetch_list(args: argparse.Namespace) -> int:
    """Write the list, and print what it has."""
    from ..data.sets.fetch_list import command, write_fetch_list

    written, without = write_fetch_list(args.built, args.tool, args.output)
    more = f"; {without:,} missing records have no address (--for names lists them)" if without else ""
    then = command(args.tool, args.output) if written else ""
    terminal.write(f"{args.output}: {written:,} media to fetch{more}\n" + (f"then: {then}\n" if then else ""))
    return 0


def run(args: argparse.Namespace) -> int:
    """Check and report; the exit code says whether problems were found."""
    terminal.log_to_terminal(args.verbose)
    with terminal.progress(args.json) as on_stage:
        on_stage("reading records")
        from ..data.doctor.examine import examine
        from ..data.doctor.report import json_text, table, write_report

        unread: list[tuple[str, str]] = []
        records, whole = _records(args, unread)
        folder = Path(args.output or f"{Path(args.records[0]).stem}.doctor")
        found = examine(
            records, _processor(args.model, args.base, args.revision), unread=unread,
            workers=args.workers, timeout_s=args.timeout, memory_mb=args.memory, folder=folder,
            max_length=args.max_length, frames=args.frames,
            protocol=args.protocol,
            on_progress=lambda what, done, total: on_stage(f"{what}: {done:,} of {total:,}"),
        )  # fmt: skip
        if len(records) < whole:
            found.settings["sample"] = f"{len(records):,} of {whole:,} records"
        paths = write_report(found, folder, args.records)
    if args.json:
        for piece in json_text(found):
            terminal.write(piece)
    else:
        print(terminal.harmless(table(found)))
        clean = ", ".join(str(path) for name, path in paths.items() if name.startswith("clean"))
        terminal.say(f"records without problems: {clean}; report: {paths['page']}")
    return DataError.exit_code if any(found.of("problem")) else 0


def _records(args: argparse.Namespace, unread: list[tuple[str, str]]) -> "tuple[Sequence[Record], int]":
    """The records to examine, and the number of all. Built sets are read record by record."""
    from ..data.built import BuiltRecords, JoinedRecords, is_built
    from ..data.permutation import Permutation
    from ..data.records import read_records

    paths = [Path(path) for path in args.records]
    records: Sequence[Record]
    if all(map(is_built, paths)):
        records = JoinedRecords([BuiltRecords(path, sound=args.audio) for path in paths])
    else:
        records = read_records(
            paths,
            media_root=None if args.media_root is None else Path(args.media_root),
            sound=args.audio,
            on_bad=lambda origin, why: unread.append((origin, why)),
        )
    if args.sample is None or args.sample >= len(records):
        return records, len(records)
    if args.sample < 1:
        raise UsageError(f"--sample is {args.sample}; expected 1 or more records.")
    order = Permutation(len(records), [0])
    return [records[k] for k in sorted(order[place] for place in range(args.sample))], len(records)


def _processor(model: str | None, base: str | None, revision: str | None) -> Any:
    """The model's processor, without its weights; None without a model."""
    if model is None:
        return None
    from ..processing import VideoLlama2Processor
    from ..weights import stages
    from ..weights.locate import at_revision, locate
    from ..weights.nano_cache import is_nano

    folder, _ = locate(at_revision(model, revision), base)
    whole = stages.kind(folder) == "complete"
    tokenizer = folder if whole else stages.tokenizer_folder(folder, None if is_nano(model) else base)
    return VideoLlama2Processor.from_pretrained(folder, tokenizer_folder=tokenizer)
