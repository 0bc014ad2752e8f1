"""Time variants of a computation alternately (A B A B …), so that a noisy machine slows them alike.

A row is built when its turn comes (`Case`), checked (all variants must give the same numbers), timed, and freed. Where
variants allocate large blocks, each runs in a process of its own (`apart`): memory that one has made the allocator keep
would spare the other its page faults, which was worth a quarter of the plain connector's time.
"""

import ctypes
import gc
import json
import multiprocessing
import os
import platform
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from videollama2.device import ANSWERING, keep_freed_blocks
from videollama2.linear import linear

CPU = torch.device("cpu")
QUIET = 0.5  # load at start


@dataclass(frozen=True)
class Case:
    """One row, ready to run.

    variants: name → computation; "ours", "plain" (the plain implementation), and optional others. Results are compared
              with those of "ours": a tensor, a list of tensors, or None (not compared).
    flop, bytes: work of a perfect implementation of *our* computation; sets the floor of the time.
    tokens:   tokens produced by one run, for the rate.
    goal:     the intended speed-up over "plain", if any.
    tolerance: largest allowed difference between the variants' numbers, relative to the largest number.
    slow:     the run that checks the numbers is timed too, and at most one more follows.
    """

    variants: "dict[str, Callable[[], Any] | Elsewhere]"
    flop: float = 0.0
    bytes: float = 0.0
    tokens: int = 0
    goal: float | None = None
    tolerance: float = 1e-3
    slow: bool = False
    note: str = ""
    dtype: torch.dtype | None = None  # of the products, if not the run's


@dataclass
class Timing:
    """Seconds of one variant, and the memory it allocated on top of the memory in use (MiB)."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    peak_mib: float | None = None

    def of(self, work: Callable[[], Any], device: torch.device, peak: bool = False) -> Any:
        """Run once more, and return the result; with `peak`, measure the memory too."""
        run = work.run if isinstance(work, Elsewhere) else partial(timed, work, device)
        result, wall, cpu, peak_mib = run(peak)
        self.wall.append(wall)
        self.cpu.append(cpu)
        self.peak_mib = peak_mib if peak else self.peak_mib
        return result

    def summary(self) -> dict[str, Any]:
        """Medians and minima."""
        return {
            "wall_median": statistics.median(self.wall),
            "wall_min": min(self.wall),
            "cpu_median": statistics.median(self.cpu),
            "cpu_min": min(self.cpu),
            "peak_mib": self.peak_mib,
            "runs": len(self.wall),
        }


class Elsewhere:
    """A variant of a case in a process of its own, which builds the case for itself."""

    def __init__(self, build: Callable[[], Case], variant: str) -> None:
        self.variant = variant
        self._pipe, theirs = _SPAWN.Pipe()
        self._process = _SPAWN.Process(target=_serve, args=(build, variant, theirs), daemon=True)
        self._process.start()
        theirs.close()
        self.case: Case = self._received()  # without its variants, which can't be sent: their names

    def run(self, peak: bool) -> tuple[Any, float, float, float | None]:
        """Result, seconds by the clock, CPU seconds, and peak memory in MiB if asked for."""
        self._pipe.send(peak)
        arrays, *measured = self._received()
        return [torch.from_numpy(array) for array in arrays], *measured

    def _received(self) -> Any:
        try:
            answer = self._pipe.recv()
        except EOFError:
            self._process.join()
            raise RuntimeError(f"the process of {self.variant!r} ended with {self._process.exitcode}") from None
        if isinstance(answer, str):
            raise RuntimeError(f"{self.variant}: {answer}")
        return answer

    def close(self) -> None:
        self._pipe.close()
        self._process.join()


_SPAWN = multiprocessing.get_context("spawn")


def apart(build: Callable[[], Case]) -> Case:
    """The case on a CPU, with each variant in a process of its own; close it after use (`closing`).

    Args:
        build: a function of an importable module, or a `partial` of one, that returns the case.

    Raises:
        RuntimeError: a process could not build it.
    """
    ours = Elsewhere(build, "ours")
    others = {name: Elsewhere(build, name) for name in ours.case.variants if name != "ours"}
    return replace(ours.case, variants={"ours": ours, **others})


@contextmanager
def closing(case: Case) -> Iterator[Case]:
    """The case; afterwards its processes end."""
    try:
        yield case
    finally:
        for work in case.variants.values():
            if isinstance(work, Elsewhere):
                work.close()


def _serve(build: Callable[[], Case], variant: str, pipe: Any) -> None:
    """Run a variant each time that the other end asks, until it closes."""
    if variant == "ours":
        keep_freed_blocks(ANSWERING)  # as `load` does
    try:
        case = build()
    except Exception as error:  # of any kind: the row fails with its text
        pipe.send(f"{type(error).__name__}: {error}")
        return
    pipe.send(replace(case, variants=dict.fromkeys(case.variants)))
    while True:
        try:
            peak = pipe.recv()
        except EOFError:
            return
        try:
            result, *measured = timed(case.variants[variant], CPU, peak)
        except Exception as error:  # of any kind: the row fails with its text
            pipe.send(f"{type(error).__name__}: {error}")
            continue
        arrays = [t.detach().float().numpy() if t.is_floating_point() else t.numpy() for t in _tensors(result)]
        pipe.send((arrays, *measured))
        del result, arrays  # or the next run could not reuse their memory


@dataclass
class Row:
    """A measured row."""

    name: str
    timings: dict[str, dict[str, Any]]
    difference: float | None
    goal: float | None
    floor_s: float | None
    matrix_share: float | None
    memory_share: float | None
    tokens_per_s: float | None
    load: float
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """Speed-up over plain: medians by the wall clock."""
        return self._ratio("wall_median")

    @property
    def cpu_ratio(self) -> float | None:
        """Speed-up in CPU seconds, the steadier number on a shared machine."""
        return self._ratio("cpu_median")

    def _ratio(self, key: str) -> float | None:
        if "plain" not in self.timings:
            return None
        return float(self.timings["plain"][key] / max(self.timings["ours"][key], 1e-9))

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "ratio": self.ratio, "cpu_ratio": self.cpu_ratio}


@dataclass(frozen=True)
class Rates:
    """Best rates of the machine, measured in this run: the reference for floors and shares.

    On a CPU, time is CPU seconds divided by threads, so that shares stay comparable on a busy machine.
    """

    flop_per_s: float
    bytes_per_s: float
    copied_per_s: float = 0.0


def sync(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def timed(work: Callable[[], Any], device: torch.device, peak: bool) -> tuple[Any, float, float, float | None]:
    """A run's result, its seconds by the clock, its CPU seconds, and with `peak` the MiB that it allocated."""
    gc.collect()
    with peak_memory(device) if peak else nullcontext([None]) as found:
        cpu, wall = time.process_time(), time.perf_counter()
        result = work()
        sync(device)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return result, wall, cpu, found[0]


def best_of(work: Callable[[], Any], device: torch.device, runs: int) -> float:
    """Shortest time of one run, by the wall clock or by CPU seconds per thread, whichever is less."""
    work()
    sync(device)
    best = float("inf")
    for _ in range(runs):
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        sync(device)
        best = min(best, _seconds(time.perf_counter() - wall, time.process_time() - cpu, device))
    return best


def _seconds(wall: float, cpu: float, device: torch.device) -> float:
    """Time of the work; on a shared CPU, an estimate of its time on an idle one."""
    return wall if device.type == "cuda" else min(wall, cpu / torch.get_num_threads())


@torch.inference_mode()
def machine_rates(device: torch.device, dtype: torch.dtype) -> Rates:
    """Time a square matrix product, and reading a large matrix in a matrix-vector product; best of several."""
    large = device.type == "cuda"
    n = 8192 if large else 2048
    a, b = torch.randn(n, n, device=device, dtype=dtype), torch.randn(n, n, device=device, dtype=dtype)
    product = best_of(lambda: a @ b, device, 20 if large else 5)
    if not large:  # torch's own product of float32 is not the fastest on every CPU
        product = min(product, best_of(lambda: linear(a, b), device, 5))
    rows = 65536 if large else 16384
    matrix, vector = torch.randn(rows, 4096, device=device, dtype=dtype), torch.randn(4096, device=device, dtype=dtype)
    read = best_of(lambda: torch.mv(matrix, vector), device, 20 if large else 7)
    read = min(read, best_of(lambda: linear(vector[None], matrix), device, 20 if large else 7))
    target = torch.empty_like(matrix)
    copied = best_of(lambda: target.copy_(matrix), device, 7)
    return Rates(2 * n**3 / product, matrix.nbytes / read, 2 * matrix.nbytes / copied)


def run_case(name: str, case: Case, repeat: int, device: torch.device, rates: Rates) -> Row:
    """Check the variants' numbers, then time them alternately."""
    timings = {variant: Timing() for variant in case.variants}
    results = {}
    for variant, work in case.variants.items():
        results[variant] = timings[variant].of(work, device, peak=True)
    if not case.slow:
        for timing in timings.values():
            timing.wall.clear(), timing.cpu.clear()
    difference = _largest_difference(results)
    results.clear()
    if difference is not None and not difference <= case.tolerance:
        raise AssertionError(f"{name}: the variants differ by {difference:.3g}, more than {case.tolerance:g}")
    for _ in range(min(repeat - 1, 1) if case.slow else repeat):
        for variant, work in case.variants.items():
            timings[variant].of(work, device)
    ours = timings["ours"]
    seconds = statistics.median(_seconds(w, c, device) for w, c in zip(ours.wall, ours.cpu, strict=True))
    return Row(
        name=name,
        timings={variant: timing.summary() for variant, timing in timings.items()},
        difference=difference,
        goal=case.goal,
        floor_s=max(case.flop / rates.flop_per_s, case.bytes / rates.bytes_per_s) or None,
        matrix_share=case.flop / seconds / rates.flop_per_s if case.flop else None,
        memory_share=case.bytes / seconds / rates.bytes_per_s if case.bytes else None,
        tokens_per_s=case.tokens / statistics.median(ours.wall) if case.tokens else None,
        load=os.getloadavg()[0],
        note=case.note,
    )


def _largest_difference(results: dict[str, Any]) -> float | None:
    """Largest difference to "ours", relative to ours' largest number; for integers 0 or infinity."""
    ours = _tensors(results.pop("ours", None))
    worst = None
    for other in results.values():
        theirs = _tensors(other)
        if not ours or not theirs:
            continue
        for a, b in zip(ours, theirs, strict=True):
            if a.shape != b.shape:
                return float("inf")
            if not a.is_floating_point():
                gap = 0.0 if torch.equal(a, b) else float("inf")
            else:
                gap = float((a.float() - b.float()).abs().max() / a.float().abs().max().clamp(min=1e-30))
            worst = gap if worst is None or not gap <= worst else worst
    return worst


def _tensors(result: Any) -> list[Tensor]:
    if isinstance(result, Tensor):
        return [result]
    return [t for t in result if isinstance(t, Tensor)] if isinstance(result, list | tuple) else []


@contextmanager
def peak_memory(device: torch.device) -> Iterator[list[float | None]]:
    """Peak memory of the block in MiB, beyond what was in use before; None if the system cannot measure it."""
    peak: list[float | None] = [None]
    gc.collect()
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        yield peak
        peak[0] = (torch.cuda.max_memory_allocated(device) - before) / 2**20
        return
    reset = Path("/proc/self/clear_refs")  # writing 5 resets VmHWM on Linux
    try:
        ctypes.CDLL(None).malloc_trim(0)  # memory cached by the allocator would hide the block's
        reset.write_text("5")
        before = _status_kib("VmRSS")
    except (OSError, AttributeError):
        yield peak
        return
    yield peak
    peak[0] = max(_status_kib("VmHWM") - before, 0) / 1024


def _status_kib(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1])
    raise OSError(f"no {key} in /proc/self/status")


def machine(device: torch.device) -> dict[str, Any]:
    """Hardware and versions that the numbers depend on; nothing that identifies the machine."""
    import transformers

    facts = {
        "command": _command(sys.argv),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "omp_wait_policy": os.environ.get("OMP_WAIT_POLICY", "default"),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "load_at_start": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    if device.type == "cuda":
        facts |= {"gpu": torch.cuda.get_device_name(device), "cuda": torch.version.cuda}
    return facts


def _command(arguments: Sequence[str]) -> str:
    """The command line, without the file for the results."""
    kept = [a for i, a in enumerate(arguments) if "--json" not in (a, arguments[i - 1] if i else "")]
    return " ".join(["python", *map(shlex.quote, kept)])


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def table(rows: list[Row]) -> str:
    """Rows as a Markdown table."""
    head = (
        "| row | plain s | ours s (min) | ours CPU s | speed-up | speed-up by CPU s | goal | floor s | of matrix rate "
        "| of memory rate | tokens/s | peak MiB ours / plain | largest difference | load |"
    )
    lines = [head, "|" + "---|" * 14]
    for row in rows:
        ours, plain = row.timings["ours"], row.timings.get("plain")
        extra = "".join(
            f"; {name} {t['wall_median']:.3f} s (CPU {t['cpu_median']:.3f})"
            for name, t in row.timings.items()
            if name not in ("ours", "plain")
        )
        cells = [
            row.name + extra,
            "" if plain is None else f"{plain['wall_median']:.4g}",
            f"{ours['wall_median']:.4g} ({ours['wall_min']:.4g})",
            f"{ours['cpu_median']:.4g}",
            _cell(row.ratio, ".2f"),
            _cell(row.cpu_ratio, ".2f"),
            "" if row.goal is None else f"{row.goal:g}" + _verdict(row),
            _cell(row.floor_s, ".4g"),
            _cell(row.matrix_share, ".0%"),
            _cell(row.memory_share, ".0%"),
            _cell(row.tokens_per_s, ".2f"),
            f"{_cell(ours['peak_mib'], '.0f')} / {_cell(plain and plain['peak_mib'], '.0f')}",
            _cell(row.difference, ".1e"),
            f"{row.load:.1f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _verdict(row: Row) -> str:
    goal = row.goal or 0.0
    if (row.ratio or 0.0) >= goal:
        return " met"
    return " met by CPU s" if (row.cpu_ratio or 0.0) >= goal else " missed"


def write_report(path: Path | None, facts: dict[str, Any], rates: dict[torch.dtype, Rates], rows: list[Row]) -> None:
    """Write the rows as JSON, with each variant's seconds, and beside it as Markdown (`rates`: the rows' own first)."""
    if path is None:
        return
    named = {str(dtype).removeprefix("torch."): asdict(found) for dtype, found in rates.items()}
    report = {
        "machine": facts,
        "rates": next(iter(named.values())),
        "rates_by_dtype": named,
        "rows": [row.as_dict() for row in rows],
    }
    path.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    path.with_suffix(".md").write_text(_markdown(facts, rates, rows), encoding="utf-8")


def _markdown(facts: dict[str, Any], rates: dict[torch.dtype, Rates], rows: list[Row]) -> str:
    return "\n".join([*heading(facts), *(f"- {line}" for line in limits(rates)), "", table(rows)]) + "\n"


def heading(facts: dict[str, Any]) -> list[str]:
    """First lines of a report: the machine, the command, and whether anything else ran."""
    quiet = "Quiet" if facts["load_at_start"] < QUIET else "Not quiet"
    return [
        f"# {facts['cores']} cores with {facts['capability']}, {facts['date']}",
        "",
        f"    {facts['command']}",
        "",
        f"{quiet}: load {facts['load_at_start']} at the start. {facts['threads']} threads, torch {facts['torch']}, "
        f"transformers {facts['transformers']}.",
        "",
    ]


def limits(rates: dict[torch.dtype, Rates]) -> list[str]:
    """The machine's rates in words, a line per dtype."""
    return [
        f"{str(dtype).removeprefix('torch.')}: matrix product {found.flop_per_s / 1e9:.1f} GFLOP/s, "
        f"reading {found.bytes_per_s / 1e9:.1f} GB/s, copying {found.copied_per_s / 1e9:.1f} GB/s"
        for dtype, found in rates.items()
    ]


def say(text: str) -> None:
    """Print at once, also into a pipe."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
