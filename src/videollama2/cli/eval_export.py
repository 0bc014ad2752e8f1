"""`videollama2 eval export`: benchmarks as tasks of lmms-eval."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import terminal

_EPILOG = """examples:
  videollama2 eval export music-avqa avsd --data D --out tasks
  lmms-eval --model videollama2 --model_args model=2.1-7b-av --include_path tasks --tasks videollama2_music_avqa
  videollama2 eval export probe --data evals/nano/clips --out tasks         after `videollama2 eval probe`

lmms-eval lives in an environment of its own, together with this package. Its tasks then ask our words and are read by
our strict rules, whatever model it asks. Items without their media or a public answer are left out, and counted.
"""


def register(actions: Any, data_folder: Callable[..., Path]) -> None:
    """Add the action; `data_folder` says where a benchmark's files are."""
    parser = actions.add_parser(
        "export", help="benchmarks as lmms-eval tasks", description="Write benchmarks as tasks of lmms-eval.",
        epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("benchmarks", nargs="+", metavar="BENCHMARK", help="names, as `eval list` has them")
    parser.add_argument("--data", required=True, metavar="D", help="folder with the files, as for `eval run`")
    parser.add_argument("--out", required=True, metavar="FOLDER", help="where the tasks go")
    parser.add_argument("--setting", default="strict", choices=("strict", "paper"), help="default: strict")
    parser.add_argument("--verbose", "-v", action="store_true", help="say what is done")

    def export(args: argparse.Namespace) -> int:
        from ..evals import lmms_tasks
        from ..evals.registry import benchmark

        terminal.log_to_terminal(args.verbose)
        chosen = [benchmark(name) for name in dict.fromkeys(args.benchmarks)]
        for each in chosen:
            folder = data_folder(Path(args.data), each.name, alone=len(chosen) == 1)
            task, left = lmms_tasks.export(each, folder, Path(args.out), args.setting)
            out = f"; {left} items are left out" if left else ""
            print(terminal.harmless(f"{task}{out}"))
        return 0

    parser.set_defaults(func=export)
