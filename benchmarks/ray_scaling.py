"""What a job over many files costs on its driver, and how it scales with engines.

    python benchmarks/ray_scaling.py --rows driver --output report.json     no model: manifest, journal, resuming, Ray
    python benchmarks/ray_scaling.py --rows scaling --model nano --clips 24     1 and 2 engines, interleaved

`driver` counts the CPU time of the driver per row, whatever the number of engines: reading the manifest, writing the
journal, reading it again, and handing tasks to Ray and taking their results (the work is nothing).
`scaling` runs `ask` over clips made here, on a Ray of two CPUs on this machine.
"""

import argparse
import functools
import json
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from videollama2 import GenerateOptions, Media, Request, __version__
from videollama2.backends.ray.actor import Deaths
from videollama2.backends.ray.pool import RayPool
from videollama2.backends.ray.spec import EngineSpec
from videollama2.backends.ray.start import connected
from videollama2.jobs import EnginePool, JournalFile, placed_lines
from videollama2.live.asking import LINES, AskWork, ask_files
from videollama2.live.files import InputFile
from videollama2.live.manifests import find_rows
from videollama2.live.row_job import run_rows

REQUEST = Request(
    media=[Media(source="")], question="What do you see and hear?", options=GenerateOptions(max_new_tokens=12)
)
RECEIPT = {
    "video": {"source": "clips/000000.mp4", "times_seconds": [0.5 * i for i in range(8)], "notes": []},
    "media": [],
}


class Nothing(AskWork):
    """A row's line without an engine, as long as a real one."""

    def __call__(self, engine: Any, row: InputFile, stopped: Any, *, shown: str) -> Any:
        return {"status": "done", "error": None, "text": "x" * 60, "receipt": [RECEIPT] * 9, "took": 1.0}


class NoEngine(EnginePool):
    """Tasks in this thread, without an engine."""

    name, protocol = "none", "full"

    def map(self, work: Any, tasks: Sequence[Any]) -> Any:
        return (work(None, task, lambda: False) for task in tasks)


class SpecOfNothing(EngineSpec):
    """Loads nothing."""

    def load(self) -> Any:
        return NoEngine()


def seconds(work: Callable[[], Any]) -> float:
    """CPU seconds of this process, which other processes on the machine hardly change."""
    began = time.process_time()
    work()
    return time.process_time() - began


def manifest(folder: Path, rows: int) -> Path:
    path = folder / f"{rows}.jsonl"
    with path.open("w") as file:
        for i in range(rows):
            file.write(json.dumps({"id": f"row-{i:07}", "video": f"s3://bucket/clips/{i:07}.mp4"}) + "\n")
    return path


def driver(folder: Path, count: int, on_ray: int) -> dict[str, Any]:
    """Per row, of a job of `count` rows; Ray with `on_ray` rows."""
    path = manifest(folder, count)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    rows: list[InputFile] = []
    read = seconds(lambda: rows.extend(find_rows([str(path)])))
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    whole = seconds(lambda: run_rows(NoEngine(), Nothing(REQUEST), rows, folder / "job", LINES))
    again = seconds(lambda: run_rows(NoEngine(), Nothing(REQUEST), rows, folder / "job", LINES))
    line = next(value for _, _, value in placed_lines(folder / "job" / LINES))
    with JournalFile(folder / "appended.jsonl", in_use="") as journal:
        append = seconds(lambda: [journal.append([line]) for _ in range(min(count, 20_000))]) / min(count, 20_000)
    found = {
        "rows": count, "manifest_us": 1e6 * read / count, "rows_bytes_in_memory": 1024 * held / count,
        "append_us": 1e6 * append, "job_without_ray_us": 1e6 * whole / count, "resume_us": 1e6 * again / count,
        "line_bytes": len(json.dumps(line)),
    }  # fmt: skip
    if not on_ray:
        return found
    with connected("local"):
        for block in (4, 32):
            found |= through_ray(folder, block, on_ray)
        found["calls_to_count_blocks_per_s"] = calls_per_second()
    found["ray_rows"] = on_ray
    found["driver_peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return found


def through_ray(folder: Path, block: int, rows: int) -> dict[str, float]:
    """Of jobs whose work is nothing: a row's cost on the driver, from jobs of two lengths; the rate of the longer."""
    sizes, cpu, stamps = (rows // 4, rows), [], list[float]()
    with RayPool(SpecOfNothing(model="none"), actors=2, cpus=0.5, block=block, threads=1) as pool:
        for size in sizes:
            some, stamps = find_rows([str(manifest(folder, size))]), list[float]()
            began, before = time.perf_counter(), time.process_time()
            on_file = functools.partial(lambda stamps, *_: stamps.append(time.perf_counter()), stamps)
            run_rows(pool, Nothing(REQUEST), some, folder / f"ray-{block}-{size}", LINES, on_file=on_file)
            cpu.append(time.process_time() - before)
    name = f"ray_block_{block}"
    return {
        f"{name}_us": 1e6 * (stamps[-1] - stamps[0]) / (rows - 1),
        f"{name}_driver_cpu_us": 1e6 * (cpu[1] - cpu[0]) / (sizes[1] - sizes[0]),
        f"{name}_seconds_to_first_line": stamps[0] - began,
    }


def calls_per_second(calls: int = 2000) -> float:
    """How many blocks per second one counter of deaths takes."""
    import ray

    deaths = ray.remote(num_cpus=0)(Deaths).remote()
    ray.get(deaths.begin_block.remote(-1))
    began = time.perf_counter()
    ray.get([deaths.begin_block.remote(k) for k in range(calls)])
    return calls / (time.perf_counter() - began)


def scaling(folder: Path, model: str, clips: int, repeats: int) -> dict[str, Any]:
    """Rows per second between the first line and the last, with 1 and 2 engines of one CPU each, in turns."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "recipes" / "ray"))
    from two_nodes import write_clip

    rows = [InputFile(folder / f"{i:03}.mp4", f"{i:03}.mp4") for i in range(clips)]
    for i, row in enumerate(rows):
        write_clip(Path(row.path), i)
    spec = EngineSpec(model=model, device="cpu", dtype="float32", workers=1)
    found: dict[int, list[float]] = {1: [], 2: []}
    ready: list[float] = []
    with connected("local"):  # one cluster for all
        for repeat in range(repeats):
            for actors in (1, 2):
                began = time.perf_counter()
                with RayPool(spec, actors=actors, cpus=1, threads=1, block=2) as pool:
                    stamps: list[float] = []
                    out = folder / f"out-{actors}-{repeat}"
                    ask_files(pool, rows, out, REQUEST, on_file=lambda *_, at=stamps: at.append(time.perf_counter()))
                ready.append(stamps[0] - began)
                found[actors].append((len(stamps) - 1) / (stamps[-1] - stamps[0]))
                print(actors, f"{found[actors][-1]:.2f} rows/s", file=sys.stderr, flush=True)
    one, two = (statistics.median(found[n]) for n in (1, 2))
    return {
        "model": model, "clips": clips, "rows_per_second": {str(n): values for n, values in found.items()},
        "ratio_2_to_1": two / one, "seconds_to_first_line": ready,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", choices=("driver", "scaling"), required=True)
    parser.add_argument("--count", type=int, default=100_000, help="rows of the job without Ray")
    parser.add_argument("--on-ray", type=int, default=4_000, help="rows of the job on Ray")
    parser.add_argument("--model", default="nano")
    parser.add_argument("--clips", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--output", type=Path)
    # on a busy machine, Ray's 15 would measure the other processes
    os.environ.setdefault("RAY_worker_niceness", "0")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if args.rows == "driver":
            found = driver(folder, args.count, args.on_ray)
        else:
            found = scaling(folder, args.model, args.clips, args.repeats)
    text = json.dumps({"videollama2": __version__, args.rows: found}, indent=1)
    print(text)
    if args.output is not None:
        args.output.write_text(text + "\n")


if __name__ == "__main__":
    main()
