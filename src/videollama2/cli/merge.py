"""`videollama2 merge FOLDER DST`."""

import argparse
from typing import Any

from ..json_lines import dumps_line
from . import terminal

_EPILOG = """examples:
  videollama2 merge my-lora/ merged/                              the base is named in config.json
  videollama2 merge my-lora/ merged/ --base Qwen/Qwen2-7B-Instruct --vision siglip/
  videollama2 merge audio-stage1/ merged/ --audio beats/          beats/ as `convert` writes it

The result is a complete folder: `videollama2 ask clip.mp4 "…" --model merged/`.
"""


def register(commands: Any) -> None:
    """Add the command and its flags."""
    parser = commands.add_parser(
        "merge", help="a training stage and its base → one folder",
        description="Join a projector, encoder or LoRA folder with its base model into one complete folder.",
        epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("folder", metavar="FOLDER", help="of a pre-training stage, or with a LoRA adapter")
    parser.add_argument("target", metavar="DST", help="the folder to make")
    parser.add_argument("--base", metavar="B", help="base model; default: what FOLDER's config.json names")
    parser.add_argument("--vision", metavar="DIR", help="vision tower, where the base has none")
    parser.add_argument("--audio", metavar="DIR", help="converted BEATs, where neither FOLDER nor the base has one")
    parser.add_argument("--dtype", default="auto", metavar="T", help="of the result; auto (default): the base's")
    parser.add_argument("--verbose", "-v", action="store_true", help="say what is loaded")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Merge and name the result."""
    terminal.log_to_terminal(args.verbose)
    with terminal.progress(args.json) as on_stage:
        on_stage("merging")
        from ..device import choose
        from ..weights import adapters

        dtype = "auto" if args.dtype == "auto" else choose("cpu", args.dtype).dtype
        made = adapters.merge(args.folder, args.target, args.base, vision=args.vision, audio=args.audio, dtype=dtype)
    print(dumps_line({"folder": str(made)}) if args.json else f"{made} is a complete model")
    return 0
