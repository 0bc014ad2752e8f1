"""`videollama2 merge FOLDER DST`."""

import argparse
from typing import Any

from . import terminal

_EPILOG = """examples:
  videollama2 merge my-lora/ merged/                              config.json names the base
  videollama2 merge my-lora/ merged/ --base Qwen/Qwen2-7B-Instruct --vision siglip/
  videollama2 merge audio-stage1/ merged/ --audio beats/          beats/ as written by `convert`

The result is a complete model: `videollama2 ask clip.mp4 "…" --model merged/`.
"""


def register(commands: Any) -> None:
    """Add the command and its flags."""
    parser = commands.add_parser(
        "merge", help="merge a training stage into its base model", epilog=_EPILOG,
        description="Merge a projector, encoder or LoRA folder with its base model into one complete folder.",
    )  # fmt: skip
    parser.add_argument("folder", metavar="FOLDER", help="folder of a pre-training stage or of a LoRA adapter")
    parser.add_argument("target", metavar="DST", help="output folder")
    parser.add_argument("--base", metavar="B", help="base model; default: the one in FOLDER's config.json")
    parser.add_argument("--vision", metavar="DIR", help="vision encoder, if the base has none")
    parser.add_argument("--audio", metavar="DIR", help="converted BEATs, if neither FOLDER nor the base has one")
    parser.add_argument("--dtype", default="auto", metavar="T", help="dtype of the result; auto (default): the base's")
    parser.add_argument("--verbose", "-v", action="store_true", help="log what is loaded")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Merge, and print the folder."""
    terminal.log_to_terminal(args.verbose)
    with terminal.progress(args.json) as on_stage:
        on_stage("merging")
        from ..device import named_dtype
        from ..weights import stages

        dtype = "auto" if args.dtype == "auto" else named_dtype(args.dtype)
        made = stages.merge(args.folder, args.target, args.base, vision=args.vision, audio=args.audio, dtype=dtype)
    terminal.print_json({"folder": str(made)}) if args.json else print(f"{made} is a complete model")
    return 0
