"""How fast the parts of the model are, compared in the same run with the straightforward way (plain.py).

    python benchmarks/inference.py --media FOLDER                  every row, about half an hour on two cores
    python benchmarks/inference.py --rows 'connector.*' --repeat 3
    python benchmarks/inference.py --suite gpu                     7B shape on a GPU, under three minutes

Each row's variants run in turn, A B A B …, so that other work on the machine meets both alike; wall clock and CPU
seconds are both given, with medians and minima. Floors come from a matrix product and a matrix-vector product measured
in the same run.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: threads that spin starve each other on few cores

import argparse
import fnmatch
import gc
import tempfile
from pathlib import Path

import torch

import measure
from measure import say


def main() -> None:
    arguments = _parser().parse_args()
    device = torch.device(arguments.device or ("cuda" if arguments.suite == "gpu" else "cpu"))
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    facts, rates = measure.machine(device), measure.machine_rates(device, dtype)
    say(f"{facts}\nmatrix product {rates.flop_per_s / 1e9:.1f} GFLOP/s, reading {rates.bytes_per_s / 1e9:.1f} GB/s\n")
    done: list[measure.Row] = []
    failed: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        for name, build in _rows(arguments, device, Path(scratch)).items():
            if not any(fnmatch.fnmatch(name, pattern) for pattern in arguments.rows):
                continue
            try:
                row = measure.run_case(name, build(), arguments.repeat, device, rates)
            except Exception as error:  # one row must not cost the others' minutes
                say(f"| {name} | failed: {type(error).__name__}: {error} |")
                failed.append(name)
                continue
            done.append(row)
            shown = measure.table([row]).splitlines()
            say("\n".join(shown if len(done) == 1 else shown[2:]))
            measure.write_report(arguments.json, facts, rates, done)
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

    return rows_inputs.rows(arguments.media, scratch) | rows_parts.rows() | rows_model.rows(scratch, arguments.model)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="*", default=["*"], metavar="PATTERN", help="names of rows, with * and ?")
    parser.add_argument("--suite", choices=["cpu", "gpu"], default="cpu")
    parser.add_argument("--media", type=Path, help="folder of clips for the picture rows")
    parser.add_argument("--model", help="also measure questions to this model (a name or a folder)")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the report here, after every row")
    parser.add_argument("--device", help="cpu or cuda")
    return parser


if __name__ == "__main__":
    main()
