"""Time the parts of the model, next to a plain implementation of the same computation (plain.py).

    python benchmarks/inference.py --media FOLDER                  every row, about half an hour on two cores
    python benchmarks/inference.py --rows 'connector.*' --repeat 3
    python benchmarks/inference.py --suite gpu                     the 7B shape on a GPU, under three minutes

The variants of a row run alternately (A B A B …), so that other work on the machine slows both alike. The table shows
medians and minima, by the wall clock and in CPU seconds. On a busy machine, trust the CPU seconds.

How to read it: "speed-up" is plain time over our time. "floor" is the least time the computation could take at the
machine's matrix and memory rates, which are measured in the same run; the two shares say how close we are to them.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is imported: idle threads must not spin on few cores

import argparse
import fnmatch
import gc
import tempfile
from functools import partial
from pathlib import Path

import torch

import measure
from measure import say
from videollama2.device import cpu_rates


def main() -> None:
    arguments = _parser().parse_args()
    device = torch.device(arguments.device or ("cuda" if arguments.suite == "gpu" else "cpu"))
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    facts, rates = measure.machine(device), measure.machine_rates(device, dtype)
    by_dtype = {dtype: rates}
    if device.type == "cpu" and cpu_rates().bfloat16 > cpu_rates().float32:
        by_dtype[torch.bfloat16] = measure.machine_rates(device, torch.bfloat16)
    say(str(facts))
    for line in measure.limits(by_dtype):
        say(line)
    if facts["load_at_start"] >= measure.QUIET:
        say(f"the machine is not quiet: load {facts['load_at_start']}; trust ratios and CPU seconds")
    done: list[measure.Row] = []
    failed: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        for name, build in _rows(arguments, device, Path(scratch)).items():
            if not any(fnmatch.fnmatch(name, pattern) for pattern in arguments.rows):
                continue
            try:
                with measure.closing(build()) as case:
                    own = by_dtype.get(case.dtype or dtype, rates)
                    row = measure.run_case(name, case, arguments.repeat, device, own)
            except Exception as error:  # a failing row must not lose the others
                say(f"| {name} | failed: {type(error).__name__}: {error} |")
                failed.append(name)
                continue
            done.append(row)
            shown = measure.table([row]).splitlines()
            say("\n".join(shown if len(done) == 1 else shown[2:]))
            measure.write_report(arguments.json, facts, by_dtype, done)
            gc.collect()
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


def _rows(arguments: argparse.Namespace, device: torch.device, scratch: Path) -> dict[str, object]:
    if arguments.suite == "gpu":
        import rows_gpu

        return rows_gpu.rows(device)
    import rows_inputs
    import rows_model
    import rows_parts

    large = rows_parts.rows(arguments.public) | rows_model.rows(scratch, arguments.model)
    return rows_inputs.rows(arguments.media, scratch, arguments.long) | {
        name: partial(measure.apart, build) for name, build in large.items()
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--rows", nargs="*", default=["*"], metavar="PATTERN", help="rows to run, with * and ?; default: all"
    )
    parser.add_argument("--suite", choices=["cpu", "gpu"], default="cpu", help="default: %(default)s")
    parser.add_argument("--media", type=Path, help="folder of clips; without it the rows that need clips are skipped")
    parser.add_argument("--long", type=Path, help="folder for long videos (3 GB), which are made once and stay")
    parser.add_argument(
        "--public", type=Path, help="folder of the public implementation, which a third variant then runs (public.py)"
    )
    parser.add_argument("--model", help="also time questions to this model (a name or a folder)")
    parser.add_argument("--repeat", type=int, default=5, help="runs of each variant; default: %(default)s")
    parser.add_argument(
        "--json", type=Path, help="write the results to this file and, as Markdown, beside it, after every row"
    )
    parser.add_argument("--device", help="cpu or cuda; default: by suite")
    return parser


if __name__ == "__main__":
    main()
