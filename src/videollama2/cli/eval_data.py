"""`videollama2 eval list` and `self-test`: the benchmarks, and what loading a user's files finds. No model needed."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import DataError
from . import terminal

_LIST = """examples:
  videollama2 eval list                          all benchmarks, and the files each one needs
  videollama2 eval list mvbench --data D         load D/mvbench, or D itself, as a run would

The exit status is 1 if a named benchmark, or one whose files are in D, can't be loaded.
"""
_SELF_TEST = """examples:
  videollama2 eval self-test --data D            every benchmark that has a folder in D
  videollama2 eval self-test cmm --data D        its items, media and counts, 5 sample items, and how answers are read

No model is needed. The exit status is 1 if a benchmark can't be loaded.
"""


def register(actions: Any) -> None:
    """Add both actions to those of `eval`."""
    listing = actions.add_parser(
        "list", help="list benchmarks, and the files each one needs", epilog=_LIST, description="List benchmarks."
    )
    listing.add_argument("benchmarks", nargs="*", metavar="BENCHMARK", help="only these")
    listing.add_argument("--data", metavar="D", help="also load the files in this folder, and report what was found")
    listing.set_defaults(func=run_list)
    test = actions.add_parser(
        "self-test", help="load benchmarks, and show items and how answers are read", epilog=_SELF_TEST,
        description="Check a folder of benchmarks without a model.",
    )  # fmt: skip
    test.add_argument("benchmarks", nargs="*", metavar="BENCHMARK", help="only these")
    test.add_argument("--data", required=True, metavar="D", help="folder of a benchmark, or with one per benchmark")
    test.set_defaults(func=run_self_test)
    for each in (listing, test):
        each.add_argument("--setting", default="strict", choices=("strict", "paper"), help="default: strict")
        each.add_argument("--json", action="store_true", help="print one JSON list")


def run_list(args: argparse.Namespace) -> int:
    """Print name, title and kind of each benchmark, and its files; with --data, what loading them finds."""
    from ..evals.inspection import inspected
    from ..evals.registry import benchmark, benchmarks

    chosen = [benchmark(name) for name in args.benchmarks] or list(benchmarks().values())
    found = []
    for each in chosen:
        if args.data is None:
            found.append(inspected(each))
        else:
            found.append(inspected(each, data_folder(Path(args.data), each.name, alone=True), args.setting))
    if args.json:
        terminal.print_json(found)
    for one in [] if args.json else found:
        _print_head(one)
        _print_loaded(one)
    return _failed([one for one in found if args.benchmarks or _is_there(one, args.data)])


def _is_there(found: dict[str, Any], data: str | None) -> bool:
    """Whether a folder has the benchmark's name, or all of its required files."""
    required = [need["there"] for need in found["needs"] if need["required"]]
    return data is not None and (Path(data, found["name"]).is_dir() or (bool(required) and all(required)))


def _failed(found: Sequence[dict[str, Any]]) -> int:
    """The exit status: 1 if one can't be loaded. Names those that can't."""
    names = [each["name"] for each in found if each.get("problem") is not None]
    if names:
        terminal.say(f"{len(names)} of {len(found)} can't be loaded: {', '.join(names)}")
    return int(bool(names))


def run_self_test(args: argparse.Namespace) -> int:
    """Print what loading each benchmark finds, sample items, and how answers are read."""
    from ..evals.inspection import self_test
    from ..evals.registry import benchmark, benchmarks

    data = Path(args.data)
    names = list(dict.fromkeys(args.benchmarks)) or [name for name in benchmarks() if _own_folder(data, name)]
    if not names:
        raise DataError(f"{data} has no folder named after a benchmark; name the benchmark, or lay out D/BENCHMARK.")
    found = []
    for name in names:
        folder = data_folder(data, name, alone=len(names) == 1)
        tested = self_test(benchmark(name), folder, args.setting)
        if not args.benchmarks and folder != data / name and tested["problem"] is not None:
            continue  # a folder that several benchmarks may share has files of others alone
        found.append(tested)
        if not args.json:
            _print_head(found[-1])
            _print_loaded(found[-1])
            _print_samples(found[-1])
            _print_official(found[-1])
    if args.json:
        terminal.print_json(found)
    return _failed(found)


def _print_head(found: dict[str, Any]) -> None:
    _show(f"{found['name']:<16} {found['title']} · {found['kind']} · {found['metric']}")
    _show(found["source"], 17)
    for need in found["needs"]:
        there = "" if need["there"] is None else "found  " if need["there"] else "missing  "
        _show(f"{there}{need['path']}: {need['what']}{'' if need['required'] else ' (optional)'}", 19)


def _print_loaded(found: dict[str, Any]) -> None:
    """What loading found; nothing without a folder."""
    if "problem" not in found:
        return
    if found["problem"] is not None:
        _show(f"can't be loaded: {found['problem']}", 19)
        return
    coverage, published = found["coverage"], found["published"]
    of = "" if published is None else f" of {published:,} published"
    _show(f"read: {', '.join(found['files'])}", 19)
    _show(
        f"{coverage['available']:,} items{of}; {coverage['with_media']:,} with their media, {coverage['missing']:,} "
        f"without; {coverage['malformed']:,} malformed; {coverage['scored']:,} with a public answer",
        19,
    )
    for name in coverage["missing_named"][:3]:
        _show(f"missing  {name}", 19)
    for note in coverage["notes"]:
        _show(f"note: {note}", 19)


def _print_samples(found: dict[str, Any]) -> None:
    for number, item in enumerate(found.get("samples", ()), 1):
        place = item["missing"] or item["media"] or "no media"
        heard = f" + {item['audio_media']}" if item["audio_media"] else ""
        bounds = item["range_seconds"] or [None, None]
        span = (
            ""
            if bounds == [None, None]
            else f", {bounds[0] or 0:g} to {'the end' if bounds[1] is None else bounds[1]} s"
        )
        used = f" ({' and '.join(item['modalities'])}{span})" if item["modalities"] else ""
        _show(f"sample {number}: {item['id']} ({item['origin']}): {place}{heard}{used}", 17)
        for line in item["question"].splitlines():
            _show(line, 21)
        _show(f"answer: {' | '.join(item['truth']) or 'not public'}", 19)


def _print_official(found: dict[str, Any]) -> None:
    for form in found.get("readings", ()):
        _show(
            f"a right answer as {form['form']!r}: strict counts {form['strict']:,} of {form['items']:,}, paper "
            f"{form['paper']:,}",
            17,
        )
    if found["official"]:
        _show(f"the official scorer: {found['official']}", 17)


def _show(text: str, indent: int = 0) -> None:
    print(terminal.harmless(f"{'':<{indent}}{text}"))


def _own_folder(data: Path, name: str) -> Path | None:
    """The folder in `data` with the benchmark's name, or with the beginning of its name that several parts share."""
    words = name.split("-")
    beginnings = (data / "-".join(words[:length]) for length in range(len(words), 0, -1))
    return next((path for path in beginnings if path.is_dir()), None)


def data_folder(data: Path, name: str, *, alone: bool) -> Path:
    """The folder with a benchmark's files.

    It is the folder in `data` with the benchmark's name, or with the beginning of its name that several parts of a
    benchmark share (`perception-test` for `perception-test-valid`); for a single benchmark it may be `data` itself.

    Raises:
        DataError: no such folder.
    """
    if (found := _own_folder(data, name)) is not None:
        return found
    if not data.is_dir():
        raise DataError(f"{data} is not a folder; pass the folder with the benchmark's files as --data.")
    if not alone:
        raise DataError(f"{data} has no folder {name}; with several benchmarks, each needs its own folder there.")
    return data
