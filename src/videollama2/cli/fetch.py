"""`videollama2 fetch [MODEL]`: download what a model needs, so that it runs offline afterwards."""

import argparse
from typing import Any

from . import terminal

_EPILOG = """examples:
  videollama2 fetch                    nano's base language model (98 MB), verified by sha256
  videollama2 fetch 2.1-7b-av          a released model: configuration and safetensors only, never code or pickles
"""


def register(commands: Any) -> None:
    """Add the command and its flags."""
    parser = commands.add_parser(
        "fetch", help="download what a model needs to run offline", epilog=_EPILOG,
        description="Download what a model needs, once; afterwards it runs offline.",
    )  # fmt: skip
    parser.add_argument("model", nargs="?", default="nano", metavar="MODEL", help="a name or hub id; default: nano")
    parser.add_argument("--base", metavar="B", help="nano's base language model: a folder, a GGUF file or a hub id")
    parser.add_argument("--revision", metavar="R", help="branch, tag or commit of a hub id; default: main branch")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Download, and print the folder."""
    from ..hub import HubOptions
    from ..weights.locate import locate

    terminal.log_to_terminal(verbose=True)
    folder, _ = locate(args.model, args.base, HubOptions(revision=args.revision))
    print(folder)
    return 0
