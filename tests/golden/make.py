"""Write the golden files: `python -m tests.golden.make [--overwrite] [NAME …]`.

Overwrite a file only if its numbers are meant to change, and only while tests/parity passes: it defines what a clone
without recordings is compared with. A change of numbers belongs in docs/decisions.
"""

import argparse
import json
import sys

from safetensors.torch import save_file

from .. import tiny
from . import cases


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help=f"of {', '.join(cases.TENSORS)}, prompts; default: all")
    parser.add_argument("--overwrite", action="store_true", help="replace files that exist")
    args = parser.parse_args(argv)
    names = args.names or [*cases.TENSORS, "prompts"]
    paths = {name: cases.PROMPTS if name == "prompts" else cases.FOLDER / f"{name}.safetensors" for name in names}
    there = [path.name for path in paths.values() if path.exists()]
    if there and not args.overwrite:
        print(f"{', '.join(there)} exist; give --overwrite to replace them", file=sys.stderr)
        return 1
    cases.FOLDER.mkdir(exist_ok=True)
    if not cases.CLIP.exists():
        tiny.write_clip(cases.CLIP)
    for name, path in paths.items():
        if name == "prompts":
            lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in cases.prompts().items()]
            path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
        else:
            save_file({key: tensor.contiguous() for key, tensor in cases.TENSORS[name]().items()}, path)
        print(f"{path.stat().st_size:8,} bytes  {path.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
