"""Table 1 of the paper at nano scale: encode clips, train nine connectors with several seeds, write the table.

    python recipes/sweep/sweep.py --vision DINOV2_FOLDER --pictures pictures.npz --work FOLDER

Finished work is kept (encoded clips in FOLDER, finished runs as lines of results.jsonl), so the command can be
interrupted at any time and repeated. The packs come from recipes/nano (vision.py, pictures.py).
"""

import argparse
import json
import logging
import multiprocessing
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "nano"))  # rendering.py, shared_clips.py

from patches import Encoded, encoded_clips  # noqa: E402
from report import write_report  # noqa: E402
from trial import Budget, run  # noqa: E402

ROWS, SEEDS, RATES = tuple(range(1, 10)), (0, 1, 2), (2e-3, 5e-4)

logger = logging.getLogger("sweep")


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--vision", type=Path, required=True, help="a Dinov2Model folder")
    made.add_argument("--pictures", type=Path, required=True, help="pack of recipes/nano/pictures.py")
    made.add_argument("--work", type=Path, required=True, help="folder for encoded clips")
    made.add_argument("--results", type=Path, default=HERE / "results.jsonl")
    made.add_argument(
        "--report", type=Path, default=HERE.parents[1] / "docs" / "architecture-sweep.md",
        help="document with two marks, between which the tables go; the plot is saved beside it",
    )  # fmt: skip
    made.add_argument("--rows", type=int, nargs="+", default=ROWS, help="rows of Table 1")
    made.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    made.add_argument("--steps", type=int, default=Budget.steps)
    made.add_argument("--learning-rates", type=float, nargs="+", default=RATES, help="each row is trained with each")
    made.add_argument("--train-clips", type=int, default=2000)
    made.add_argument("--test-clips", type=int, default=360)
    made.add_argument("--jobs", type=int, default=2, help="parallel runs of one thread each; 0: in this process")
    return made


def finished(results: Path, budget: Budget) -> list[dict[str, Any]]:
    """Results of earlier invocations, with any learning rate; lines cut off by a crash are ignored.

    Raises SystemExit if a result has another budget.
    """
    found = []
    lines = results.read_text(encoding="utf-8").splitlines() if results.is_file() else []
    for number, line in enumerate(lines, 1):
        try:
            result = json.loads(line)
        except ValueError:
            logger.warning("%s:%d is incomplete; repeating its run", results, number)
            continue
        asked = {**vars(budget), "learning_rate": result["budget"]["learning_rate"]}
        if result["budget"] != asked:
            raise SystemExit(
                f"{results}:{number} has the budget {result['budget']}, this sweep has {asked}; rows are only "
                "compared at equal budgets: give another --results file"
            )
        found.append(result)
    return found


def append(results: Path, result: dict[str, Any]) -> None:
    """Append a line durably, after ending a line that was cut off."""
    results.parent.mkdir(parents=True, exist_ok=True)
    cut = results.is_file() and results.stat().st_size > 0 and not results.read_bytes().endswith(b"\n")
    with results.open("a", encoding="utf-8") as file:
        file.write(("\n" if cut else "") + json.dumps(result) + "\n")
        file.flush()
        os.fsync(file.fileno())


_encoded: dict[str, Encoded] = {}  # of a worker process


def _start_worker(encoded: dict[str, Encoded]) -> None:
    torch.set_num_threads(1)
    _encoded.update(encoded)


def _run(row: int, seed: int, budget: Budget) -> dict[str, Any]:
    return run(row, seed, budget, _encoded)


Run = tuple[int, int, Budget]  # row, seed, budget


def run_all(wanted: Sequence[Run], encoded: dict[str, Encoded], jobs: int) -> Iterator[dict[str, Any]]:
    """Execute runs, `jobs` in parallel (0: in this process); yields results as they complete."""
    if jobs == 0:
        yield from (run(*one, encoded) for one in wanted)
        return
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), _start_worker, (encoded,)) as pool:
        runs = [pool.submit(_run, *one) for one in wanted]
        try:
            for done in as_completed(runs):
                yield done.result()
        finally:  # after an error, pending runs are cancelled
            pool.shutdown(cancel_futures=True)


def main(arguments: Sequence[str] | None = None) -> None:
    args = parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    budget = Budget(steps=args.steps, train_clips=args.train_clips)
    done = {(r["row"], r["seed"], r["budget"]["learning_rate"]) for r in finished(args.results, budget)}
    # seed by seed, so that an interrupted sweep still compares all rows
    wanted = [
        (row, seed, replace(budget, learning_rate=rate))
        for seed in args.seeds
        for rate in args.learning_rates
        for row in args.rows
        if (row, seed, rate) not in done
    ]
    logger.info("%d runs are done, %d to do", len(done), len(wanted))
    if wanted:
        counts = {"train": args.train_clips, "test": args.test_clips}
        encoded = encoded_clips(args.vision, args.pictures, counts, budget.width, args.work / "patches")
        for number, result in enumerate(run_all(wanted, encoded, args.jobs), 1):
            append(args.results, result)
            what = (result["row"], result["seed"], result["budget"]["learning_rate"])
            logger.info("%d of %d: row %d, seed %d, rate %g", number, len(wanted), *what)
    write_report(finished(args.results, budget), args.report)


if __name__ == "__main__":
    main()
