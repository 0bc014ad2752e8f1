"""A run's checkpoints: the learning parameters, the optimizer's moments and the step.

    checkpoints/step-000200/
        trained-0-of-2.safetensors, …      one process's rows of every parameter that learns
        optimizer-0-of-2.safetensors, …    its rows of AdamW's two moments
        state.json                         step, run, best evaluation; written last

Writes are atomic: a checkpoint is written under a temporary name, synced to disk and renamed, so a kill at any moment
leaves the previous one. Each file records which rows of which shape it holds, so any number of processes can restore
what any other number saved. There are no pickles (torch's sharded format has a pickled index).
"""

import contextlib
import errno
import json
import logging
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ..configuration import read_json
from ..errors import CheckpointNotFound, StorageError, TensorMismatch, UsageError
from .strategy import MOMENTS, Moments, Strategy

logger = logging.getLogger(__name__)

STATE, UNFINISHED = "state.json", ".unfinished"
STEP = re.compile(r"step-(\d{6,})")


def new_state(phase: str, data: str, steps: int) -> dict[str, Any]:
    """state.json of a run of `steps` steps before its first; `data` identifies the records and their order."""
    return {"step": 0, "steps": steps, "phase": phase, "data": data, "best": None, "waited": 0, "skipped": 0}


def checkpoints(run: Path) -> list[Path]:
    """A run's complete checkpoints, oldest first."""
    found = {p: STEP.fullmatch(p.name) for p in (run / "checkpoints").glob("step-*") if (p / STATE).is_file()}
    numbers = {p: int(match[1]) for p, match in found.items() if match}  # skips copies made by users
    return sorted(numbers, key=lambda p: numbers[p])  # by number, as names get longer from a million on


def learning(model: nn.Module) -> dict[str, nn.Parameter]:
    """Name → parameter, for all trainable parameters."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def save(
    run: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    state: Mapping[str, Any],
    strategy: Strategy,
) -> Path:
    """Write the checkpoint of `state["step"]`. Call on every process.

    Raises:
        StorageError: it can't be written; earlier checkpoints are untouched.
    """
    target = run / "checkpoints" / f"step-{state['step']:06}"
    unfinished = target.with_name(target.name + UNFINISHED)
    processes, sharded = strategy.processes, strategy.shards_weights
    writers = processes.world_size if sharded else 1
    with writing(target):
        if processes.first:
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir(parents=True)
        processes.barrier()
        named, states = learning(model), strategy.moments(model, optimizer)
        moments = {
            f"{moment}/{name}": states[p][moment]
            for name, p in named.items()
            for moment in MOMENTS
            if moment in states.get(p, {})
        }
        if processes.first or sharded:  # without sharding, the first process has them whole
            suffix = f"{processes.rank}-of-{writers}.safetensors"
            _write(unfinished / f"trained-{suffix}", dict(named))
            _write(unfinished / f"optimizer-{suffix}", moments)
        processes.barrier()
        if processes.first:
            _write_text(unfinished / STATE, json.dumps({**state, "world": writers}, indent=1))
            _sync_folder(unfinished)
            shutil.rmtree(target, ignore_errors=True)
            unfinished.rename(target)
            _sync_folder(target.parent)
        processes.barrier()
    logger.info("saved checkpoint %s", target)
    return target


def restore(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, strategy: Strategy) -> dict[str, Any]:
    """Load a checkpoint into model and optimizer; returns its state. Any number of processes may restore it.

    Raises:
        CheckpointNotFound: files are missing or damaged.
        TensorMismatch: it was saved from another model, or with other trainable parts.
    """
    state = _state(folder)
    named = learning(model)
    with _ShardedFiles(folder, "trained") as files:
        if files.shapes.keys() != named.keys():
            other = sorted(files.shapes.keys() ^ named.keys())
            raise TensorMismatch(
                f"{folder} has {len(files.shapes)} trained tensors, this model has {len(named)}; they differ in "
                f"{', '.join(other[:3])}{' …' if len(other) > 3 else ''}. Resume with that run's model and settings."
            )
        with torch.no_grad():
            for name, parameter in named.items():
                files.copy_into(name, parameter)
    moments: Moments = {}
    with _ShardedFiles(folder, "optimizer") as files:
        for name, parameter in named.items():
            present = [f"{moment}/{name}" in files.shapes for moment in MOMENTS]
            if not any(present):
                continue
            if not all(present):
                raise CheckpointNotFound(
                    f"{folder} has only one of the two moments of {name}; remove {folder} to resume from the "
                    "previous checkpoint."
                )
            moments[parameter] = {moment: torch.zeros_like(parameter) for moment in MOMENTS}
            for moment, values in moments[parameter].items():
                files.copy_into(f"{moment}/{name}", values)
    strategy.restore(model, optimizer, moments, state["step"])
    return state


def _state(folder: Path) -> dict[str, Any]:
    """Read and validate state.json, which may be damaged or edited."""
    state = read_json(folder / STATE)
    counts = [state.get(k) for k in ("step", "steps", "waited", "skipped", "world")]
    counted = all(isinstance(n, int) and n >= 0 for n in counts)
    named = all(isinstance(state.get(k), str) for k in ("phase", "data"))
    best = state.get("best", ())
    measured = best is None or (isinstance(best, dict) and isinstance(best.get("step"), int) and "loss" in best)
    if not (counted and named and measured) or len(list(folder.glob("trained-*.safetensors"))) != state["world"]:
        raise CheckpointNotFound(
            f"{folder / STATE} was changed or damaged, or files next to it are missing; remove {folder} to resume "
            "from the previous checkpoint."
        )
    return state


def prune(run: Path, keep: int, best: str | None) -> None:
    """Remove all but the newest `keep` checkpoints and the best one."""
    for old in checkpoints(run)[:-keep]:
        if old.name != best and not old.is_symlink():
            with writing(old):  # renamed first, so that a kill halfway leaves no folder that looks complete
                shutil.rmtree(old.rename(old.with_name(old.name + UNFINISHED)))


def clean(run: Path) -> None:
    """Remove the unfinished checkpoints of a killed run."""
    for left in (run / "checkpoints").glob(f"*{UNFINISHED}"):
        shutil.rmtree(left)


@contextlib.contextmanager
def locked(run: Path) -> Iterator[None]:
    """Lock the run's folder against other runs; the system releases the lock of a killed process.

    Raises:
        UsageError: another run holds the lock.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    path = run / f"lock{UNFINISHED}"
    with path.open("a") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                raise UsageError(
                    f"another run is writing to {run}; wait for it to end, or choose another --output."
                ) from None
            logger.debug("%s can't be locked (%s)", path, error)  # some file systems don't support locks
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def writing(target: Path) -> Iterator[None]:
    """Turn errors of the file system into StorageError, and remove a partly written `target`.

    Raises:
        StorageError: the disk is full, the folder read-only, or the like.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        shutil.rmtree(target.with_name(target.name + UNFINISHED), ignore_errors=True)
        full = getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error)
        remedy = "Free some space" if full else "Make it writable, or choose another --output"
        raise StorageError(
            f"{target} can't be written ({error}); earlier checkpoints are untouched. {remedy}, then continue with "
            "--resume."
        ) from None


def _write(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """This process's rows of each tensor, and metadata with their place: name → [first row, whole shape]."""
    local_rows, places = {}, {}
    for name, tensor in tensors.items():
        local, first = _local(tensor.detach())
        places[name] = json.dumps([first, list(tensor.shape)])
        if local.numel():
            local_rows[name] = local.cpu().contiguous()
    save_file(local_rows, path, metadata=places)
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _local(tensor: Any) -> tuple[Tensor, int]:
    """The rows of a tensor that this process holds, and the index of the first."""
    if not hasattr(tensor, "to_local"):
        return tensor, 0
    from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

    offset = compute_local_shape_and_global_offset(tensor.shape, tensor.device_mesh, tensor.placements)[1]
    return tensor.to_local(), offset[0] if offset else 0


def _write_text(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Sync the folder's entries to disk."""
    if not hasattr(os, "O_DIRECTORY"):  # Windows
        return
    handle = os.open(folder, os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class _ShardedFiles:
    """Tensors whose rows lie in the files of several processes."""

    def __init__(self, folder: Path, stem: str) -> None:
        self.folder, self.files = folder, sorted(p.name for p in folder.glob(f"{stem}-*-of-*.safetensors"))
        world = len(self.files)
        if not world or set(self.files) != {f"{stem}-{rank}-of-{world}.safetensors" for rank in range(world)}:
            raise CheckpointNotFound(
                f"{folder} has {', '.join(self.files) or f'no {stem} file'}; expected one {stem} file per process "
                "that saved it. Resume from another checkpoint of the run, or start a new run."
            )
        self.stack = contextlib.ExitStack()
        self.shapes: dict[str, list[int]] = {}
        self.shards: dict[str, list[tuple[int, Any]]] = {}  # name → (first row, slice)

    def __enter__(self) -> "_ShardedFiles":
        for name in self.files:
            try:
                file = self.stack.enter_context(safe_open(self.folder / name, framework="pt"))
            except (OSError, SafetensorError) as error:
                self.stack.close()
                raise CheckpointNotFound(
                    f"{self.folder / name} can't be read ({error}); remove {self.folder} to resume from the previous "
                    "checkpoint."
                ) from None
            held = set(file.keys())
            for key, place in (file.metadata() or {}).items():
                first, self.shapes[key] = self._place(name, place)
                if key in held:
                    self.shards.setdefault(key, []).append((first, file.get_slice(key)))
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    def _place(self, name: str, place: str) -> tuple[int, list[int]]:
        """First row of a shard, and the shape of the whole tensor."""
        try:
            first, shape = json.loads(place)
        except (ValueError, TypeError):
            first, shape = None, None
        numbers = [first, *shape] if isinstance(shape, list) else [None]
        if not all(isinstance(n, int) and n >= 0 for n in numbers):
            self.stack.close()
            raise CheckpointNotFound(
                f"{self.folder / name} is damaged: expected first row and shape, got {place!r:.60}; remove "
                f"{self.folder} to resume from the previous checkpoint."
            )
        return first, shape

    def copy_into(self, name: str, tensor: Tensor) -> None:
        """Copy the saved values into `tensor`, or into this process's rows of it."""
        if list(tensor.shape) != self.shapes[name]:
            raise TensorMismatch(
                f"{self.folder}: {name} has shape {self.shapes[name]}, the model's has {list(tensor.shape)}; the "
                "checkpoint belongs to another model."
            )
        local, start = _local(tensor.detach())
        shards = sorted(self.shards.get(name, ()), key=lambda shard: shard[0])
        shapes = [list(shard.get_shape()) for _, shard in shards]
        rows = [(first, shape[0]) for (first, _), shape in zip(shards, shapes, strict=True) if shape]
        ends = [0, *(first + count for first, count in rows)]
        if tensor.ndim:  # every row exactly once
            complete = [first for first, _ in rows] == ends[:-1] and ends[-1] == tensor.shape[0]
        else:
            complete = len(shapes) == 1
        if not complete or any(shape[1:] != list(tensor.shape[1:]) for shape in shapes):
            raise CheckpointNotFound(
                f"{self.folder} has {rows} as (first row, rows) of {name}, of shape {list(tensor.shape)}; expected "
                f"every row once. Remove {self.folder} to resume from the previous checkpoint."
            )
        if not tensor.ndim:
            local.copy_(shards[0][1][...])
            return
        for first, shard in shards:
            count = shard.get_shape()[0]
            low, high = max(start, first), min(start + local.shape[0], first + count)
            if low < high:
                local[low - start : high - start].copy_(shard[low - first : high - first])
