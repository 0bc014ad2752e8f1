"""`videollama2 fetch [MODEL]`: what a model needs from elsewhere, once, so that it runs offline afterwards."""

import argparse
from typing import Any

from . import terminal

_EPILOG = """examples:
  videollama2 fetch                    the base language model of nano (98 MB), checked against its sha256
  videollama2 fetch 2.1-7b-av          a released model, configuration and safetensors only, never code or pickles
"""


def register(commands: Any) -> None:
    """Add the command and its flags."""
    parser = commands.add_parser(
        "fetch", help="get a model ready for offline use", description="Fetch what a model needs, once.",
        epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("model", nargs="?", default="nano", metavar="MODEL", help="a name or hub id; default: nano")
    parser.add_argument("--base", metavar="B", help="nano's base language model: a folder, a GGUF file or a hub id")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Fetch, and print the folder."""
    from ..loading import locate

    terminal.log_to_terminal(verbose=True)
    folder, _ = locate(args.model, args.base)
    print(folder)
    return 0
