"""What the commands that work through many files share: their flags, where engines run, and the report at the end."""

import argparse
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..backends.ray.start import ADDRESS
from ..errors import MediaError, UsageError, VideoLlama2Error
from . import arguments, terminal

if TYPE_CHECKING:
    from ..generation.request import Request
    from ..live.row_job import RowRun

OnFile = Callable[[dict[str, Any], int, int], None]


def add_ray_flags(parser: Any, add: Any, *, endpoints: bool = True) -> None:
    """Flags that move a job to a Ray cluster.

    Args:
        add: the `add_argument` of the group that --help shows.
        endpoints: whether the job's engine may be a server.
    """
    where = "on a Ray cluster: HOST:PORT, auto, or local (default)"
    ray = add("--ray", nargs="?", const="", metavar="ADDRESS", help=where)
    parser.optional_values[ray.option_strings[0]] = ADDRESS
    add = parser.add_advanced_group("cluster").add_argument
    add("--actors", type=int, metavar="N", help="engines on the cluster; default: one per GPU, else one per node")
    add("--actor-cpus", type=float, metavar="N", help="CPUs per engine; default: 1 with a GPU, else its share")
    endpoint = "ask this OpenAI-compatible server, http://HOST:PORT/v1, by the name --model; with or without --ray"
    if endpoints:
        add("--endpoint", metavar="URL", help=endpoint)
    add("--block", type=int, default=4, metavar="N", help="rows that an engine gets at once; default: 4")


def add_worker_flags(add: Any) -> None:
    """Flags of the workers that decode media; `add` is the `add_argument` of a group."""
    add("--threads", type=int, default=2, metavar="N", help="files in progress at once; default: 2")
    add("--timeout", type=float, default=120.0, metavar="S", help="decoding time limit, seconds; default: 120")
    add("--memory", type=int, default=4096, metavar="MIB", help="memory limit of a media worker; default: 4096")


def row_request(question: str, args: argparse.Namespace) -> "Request":
    """The request that the flags describe, for rows yet unknown.

    Raises:
        UsageError: an invalid value.
    """
    from ..generation.request import Request
    from ..protocols import protocol

    return Request(
        media=[arguments.media_item("", args)],
        question=question,
        system=args.system,
        protocol=None if args.protocol is None else protocol(args.protocol),
        strict=args.strict,
        options=arguments.generate_options(args),
    )


@contextmanager
def engines(args: argparse.Namespace, quiet: bool, **more: Any) -> Iterator[Any]:
    """The engine that the flags describe, or the pool of them on a Ray cluster.

    Args:
        more: for `RayPool`.

    Raises:
        VideoLlama2Error: as `videollama2.load`, `RayPool`.
    """
    from ..backends.endpoint import EndpointEngine, EndpointSpec
    from ..media.worker import WorkerLimits, WorkerPool

    limits = WorkerLimits(seconds=args.timeout, cpu_seconds=8 * args.timeout, memory_mb=args.memory)
    url = getattr(args, "endpoint", None)
    at = None if url is None else EndpointSpec(url=url, model=args.model)
    if args.ray is None and at is not None:
        check_ray_flags(args)
        yield EndpointEngine(at, opener=WorkerPool(workers=args.threads, worker_limits=limits).open_clip)
        return
    if args.ray is None:
        check_ray_flags(args)
        with terminal.progress(quiet) as on_stage:
            workers = WorkerPool(workers=args.threads, worker_limits=limits)
            engine = arguments.load_engine(args, on_stage, isolate=workers)
        yield engine
        return
    from ..backends.ray.pool import RayPool
    from ..backends.ray.spec import EngineSpec

    spec = at or EngineSpec(
        model=args.model, device=args.device, dtype=args.dtype, base=args.base, revision=args.revision,
        engine=args.engine, gguf=args.gguf, workers=args.threads, limits=limits,
        cache_clips=more.pop("cache_clips", False),
    )  # fmt: skip
    with terminal.progress(quiet) as on_stage:
        on_stage("starting engines on the Ray cluster")
        pool = RayPool(
            spec, address=args.ray or None, actors=args.actors, cpus=args.actor_cpus, threads=args.threads,
            block=args.block, **more,
        )  # fmt: skip
    with pool:
        if not quiet:
            terminal.say(f"{pool.actors} {'engine' if pool.actors == 1 else 'engines'} on the Ray cluster")
        yield pool


def check_ray_flags(args: argparse.Namespace) -> None:
    """Reject flags that have no effect without --ray.

    Raises:
        UsageError: one of them was passed.
    """
    given = [flag for flag in ("--actors", "--actor-cpus") if getattr(args, flag[2:].replace("-", "_")) is not None]
    if given:
        raise UsageError(f"{' and '.join(given)} would have no effect without --ray; add --ray, or drop it.")


@contextmanager
def counted(args: argparse.Namespace, out: Path, file: str) -> Iterator[OnFile]:
    """Progress of a job, and how to resume it if it is interrupted; yields its `on_file`."""
    from ..live.row_job import DONE

    quiet = args.json or getattr(args, "quiet", False)
    with (
        terminal.counting("file", quiet=quiet) as update,
        terminal.without_losses(args.verbose),
        terminal.resumable(out, file, VideoLlama2Error),
    ):
        failed = 0

        def on_file(line: dict[str, Any], done: int, total: int) -> None:
            nonlocal failed
            failed += line["status"] != DONE
            if update is not None:
                update(done, total, line["file"] + (f", {failed} failed" if failed else ""))

        yield on_file


def report(args: argparse.Namespace, done: "RowRun") -> int:
    """Print the counts and the errors; returns the exit code."""
    from ..live.row_job import DONE, FAILED, PARTLY

    counted = {status: done.counted(status) for status in (DONE, PARTLY, FAILED)}
    if args.json:
        terminal.print_json({**counted, "reused": done.reused, "folder": str(done.folder)})
    else:
        for line in done.each():
            if line["status"] != DONE:
                terminal.complain(f"{line['file']}: {why(line)}")
        words = ", ".join(f"{count} {status}" for status, count in counted.items() if count)
        terminal.say(f"{done.rows} files: {words} ({done.reused} reused); {done.file}")
    return 0 if counted[DONE] == done.rows else MediaError.exit_code


def why(line: Mapping[str, Any]) -> str:
    """Why a file lacks its result."""
    if line["error"] is not None:
        return f"{line['error']['type']}: {line['error']['message']}"
    missing = [c for c in line["captions"] if c["error"] is not None]
    return f"{len(missing)} of {len(line['captions'])} windows failed: {missing[0]['error']}"
