"""Checkpoints of a run: what has learned, the optimiser's state, and the step; whole or not there at all.

    checkpoints/step-000200/
        trained-0-of-2.safetensors, …      this process's rows of every tensor that learns
        optimizer-0-of-2.safetensors, …    its rows of AdamW's two moments
        state.json                         step, run, and what was best; written last

A checkpoint is written under another name, forced to the disk, and renamed; a kill at any moment leaves the one before.
Each file says which rows of which shape it holds, so that any number of processes can read what any other number wrote.
Nothing in it is a pickle (torch's own sharded format has a pickled index).
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
from .parallel import Processes

logger = logging.getLogger(__name__)

STATE, UNFINISHED = "state.json", ".unfinished"
STEP = re.compile(r"step-(\d{6,})")
MOMENTS = ("exp_avg", "exp_avg_sq")


def new_state(phase: str, data: str, steps: int) -> dict[str, Any]:
    """The state of a run of `steps` steps before its first one; `data` names what it learns from."""
    return {"step": 0, "steps": steps, "phase": phase, "data": data, "best": None, "waited": 0, "skipped": 0}


def checkpoints(run: Path) -> list[Path]:
    """The finished checkpoints of a run, oldest first."""
    found = {p: STEP.fullmatch(p.name) for p in (run / "checkpoints").glob("step-*") if (p / STATE).is_file()}
    named = {p: int(match[1]) for p, match in found.items() if match}  # a copy of one beside it is not ours
    return sorted(named, key=lambda p: named[p])  # by number: from a million on, names are longer


def learning(model: nn.Module) -> dict[str, nn.Parameter]:
    """Name → parameter, of all that learn."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def save(
    run: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    state: Mapping[str, Any],
    processes: Processes,
) -> Path:
    """Write a checkpoint at `state["step"]`; every process calls this.

    Raises:
        StorageError: it can't be written; earlier checkpoints are untouched.
    """
    target = run / "checkpoints" / f"step-{state['step']:06}"
    unfinished = target.with_name(target.name + UNFINISHED)
    with writing(target):
        if processes.first:
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir(parents=True)
        processes.wait()
        spread = processes.spreads_weights
        mine = f"{processes.rank}-of-{processes.world}.safetensors" if spread else "0-of-1.safetensors"
        named, states = learning(model), optimizer.state
        moments = {
            f"{moment}/{name}": states[p][moment]
            for name, p in named.items()
            for moment in MOMENTS
            if moment in states.get(p, {})
        }
        if processes.first or spread:  # else the first one has them whole
            _write(unfinished / f"trained-{mine}", dict(named))
            _write(unfinished / f"optimizer-{mine}", moments)
        processes.wait()
        if processes.first:
            _write_text(unfinished / STATE, json.dumps({**state, "world": processes.world if spread else 1}, indent=1))
            _to_disk(unfinished)
            shutil.rmtree(target, ignore_errors=True)
            unfinished.rename(target)
            _to_disk(target.parent)
        processes.wait()
    logger.info("checkpoint %s", target)
    return target


def restore(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Put a checkpoint into the model and the optimiser; returns its state. Any number of processes may call this.

    Raises:
        CheckpointNotFound: files of it are missing or damaged.
        TensorMismatch: it belongs to another model, or another phase learned in it.
    """
    state = _state(folder)
    named, step = learning(model), float(state["step"])
    with _Rows(folder, "trained") as rows:
        if rows.shapes.keys() != named.keys():
            other = sorted(rows.shapes.keys() ^ named.keys())
            raise TensorMismatch(
                f"{folder} was written while {len(rows.shapes)} tensors learned, here {len(named)} do; different are "
                f"{', '.join(other[:3])}{' …' if len(other) > 3 else ''}. Resume with that run's model and settings"
            )
        with torch.no_grad():
            for name, parameter in named.items():
                rows.fill(name, parameter)
    moments: dict[Any, dict[str, Tensor]] = {}
    with _Rows(folder, "optimizer") as rows:
        for name, parameter in named.items():
            present = [f"{moment}/{name}" in rows.shapes for moment in MOMENTS]
            if not any(present):
                continue
            if not all(present):
                raise CheckpointNotFound(
                    f"{folder} has one of the two moments of {name}; remove {folder} to resume from the checkpoint "
                    "before it"
                )
            moments[parameter] = {moment: torch.zeros_like(parameter) for moment in MOMENTS}
            for moment, values in moments[parameter].items():
                rows.fill(f"{moment}/{name}", values)
    if hasattr(optimizer, "restored"):  # train/deepspeed.py keeps them in a form of its own
        optimizer.restored(moments, step)
    else:
        fused = {p for group in optimizer.param_groups if group.get("fused") for p in group["params"]}
        for parameter, values_of in moments.items():
            place = parameter.device if parameter in fused else "cpu"  # where AdamW itself keeps the count
            optimizer.state[parameter] = {"step": torch.tensor(step, device=place), **values_of}
    return state


def _state(folder: Path) -> dict[str, Any]:
    """A checkpoint's state, checked: a disk or an editor may have damaged it."""
    state = read_json(folder / STATE)
    counts = [state.get(k) for k in ("step", "steps", "waited", "skipped", "world")]
    whole = all(isinstance(n, int) and n >= 0 for n in counts)
    named = all(isinstance(state.get(k), str) for k in ("phase", "data"))
    best = state.get("best", ())
    measured = best is None or (isinstance(best, dict) and isinstance(best.get("step"), int) and "loss" in best)
    if not (whole and named and measured) or len(list(folder.glob("trained-*.safetensors"))) != state["world"]:
        raise CheckpointNotFound(
            f"{folder / STATE} is not as the run wrote it, or files beside it are missing; remove {folder} to resume "
            "from the checkpoint before it"
        )
    return state


def prune(run: Path, keep: int, best: str | None) -> None:
    """Remove all but the newest `keep` checkpoints and the best one."""
    for old in checkpoints(run)[:-keep]:
        if old.name != best and not old.is_symlink():
            with writing(old):  # under another name first: a kill half-way leaves none that looks whole
                shutil.rmtree(old.rename(old.with_name(old.name + UNFINISHED)))


def clean(run: Path) -> None:
    """Remove what a killed run left unfinished."""
    for left in (run / "checkpoints").glob(f"*{UNFINISHED}"):
        shutil.rmtree(left)


@contextlib.contextmanager
def taken(run: Path) -> Iterator[None]:
    """As long as this lasts, no other process may train into the folder; a killed one holds it no longer.

    Raises:
        UsageError: another run has it.
    """
    try:
        import fcntl
    except ImportError:  # not on Windows
        yield
        return
    path = run / f"lock{UNFINISHED}"
    with path.open("a") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                raise UsageError(
                    f"another run is writing to {run}; wait for its end, or choose another --output"
                ) from None
            logger.debug("%s can't be locked (%s)", path, error)  # some file systems have no locks
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def writing(what: Path) -> Iterator[None]:
    """Errors of the disk as one of ours, and nothing half-written left behind.

    Raises:
        StorageError: the disk is full, the folder read-only, or the like.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        shutil.rmtree(what.with_name(what.name + UNFINISHED), ignore_errors=True)
        full = getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error)
        move = "Free some space" if full else "Give another --output, or make it writable"
        raise StorageError(
            f"{what} can't be written ({error}); what was saved before is untouched. {move}, and go on with --resume"
        ) from None


def _write(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """This process's rows of each tensor, and where they lie in the whole."""
    mine, places = {}, {}
    for name, tensor in tensors.items():
        local, begin = _local(tensor.detach())
        places[name] = json.dumps([begin, list(tensor.shape)])
        if local.numel():
            mine[name] = local.cpu().contiguous()
    save_file(mine, path, metadata=places)
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _local(tensor: Any) -> tuple[Tensor, int]:
    """The rows that this process holds of a tensor, and the index of the first."""
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


def _to_disk(folder: Path) -> None:
    """The folder's own entries, where the system can force them out."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(folder, os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class _Rows:
    """The rows of tensors that are spread over the files of several processes."""

    def __init__(self, folder: Path, stem: str) -> None:
        self.folder, self.files = folder, sorted(p.name for p in folder.glob(f"{stem}-*-of-*.safetensors"))
        world = len(self.files)
        if not world or set(self.files) != {f"{stem}-{rank}-of-{world}.safetensors" for rank in range(world)}:
            raise CheckpointNotFound(
                f"{folder} has {', '.join(self.files) or 'no file'} of what was {stem}; expected one file for each "
                "process that wrote it. Resume from another checkpoint of the run, or start a new one"
            )
        self.stack = contextlib.ExitStack()
        self.shapes: dict[str, list[int]] = {}
        self.pieces: dict[str, list[tuple[int, Any]]] = {}

    def __enter__(self) -> "_Rows":
        for name in self.files:
            try:
                file = self.stack.enter_context(safe_open(self.folder / name, framework="pt"))
            except (OSError, SafetensorError) as error:
                self.stack.close()
                raise CheckpointNotFound(
                    f"{self.folder / name} can't be read ({error}); remove {self.folder} to resume from the checkpoint "
                    "before it"
                ) from None
            held = set(file.keys())
            for key, place in (file.metadata() or {}).items():
                begin, self.shapes[key] = self._place(name, place)
                if key in held:
                    self.pieces.setdefault(key, []).append((begin, file.get_slice(key)))
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    def _place(self, name: str, place: str) -> tuple[int, list[int]]:
        """The first row of a piece and the whole tensor's shape."""
        try:
            begin, shape = json.loads(place)
        except (ValueError, TypeError):
            begin, shape = None, None
        numbers = [begin, *shape] if isinstance(shape, list) else [None]
        if not all(isinstance(n, int) and n >= 0 for n in numbers):
            self.stack.close()
            raise CheckpointNotFound(
                f"{self.folder / name} is damaged: {place!r:.60} stands where first row and shape are expected; remove "
                f"{self.folder} to resume from the checkpoint before it"
            )
        return begin, shape

    def fill(self, name: str, tensor: Tensor) -> None:
        """Copy into `tensor` (or into the rows of it that this process holds)."""
        if list(tensor.shape) != self.shapes[name]:
            raise TensorMismatch(
                f"{self.folder}: {name} is {self.shapes[name]}, the model's is {list(tensor.shape)}; it is a "
                "checkpoint of another model"
            )
        local, first = _local(tensor.detach())
        pieces = sorted(self.pieces.get(name, ()), key=lambda piece: piece[0])
        shapes = [list(piece.get_shape()) for _, piece in pieces]
        rows = [(begin, shape[0]) for (begin, _), shape in zip(pieces, shapes, strict=True) if shape]
        ends = [0, *(begin + count for begin, count in rows)]
        if tensor.ndim:  # each row of the whole, once
            whole = [b for b, _ in rows] == ends[:-1] and ends[-1] == tensor.shape[0]
        else:
            whole = len(shapes) == 1
        if not whole or any(shape[1:] != list(tensor.shape[1:]) for shape in shapes):
            raise CheckpointNotFound(
                f"{self.folder} has not all rows of {name}, or they are of other shapes than {list(tensor.shape)}; "
                f"remove {self.folder} to resume from the checkpoint before it"
            )
        if not tensor.ndim:
            local.copy_(pieces[0][1][...])
            return
        for begin, piece in pieces:
            count = piece.get_shape()[0]
            low, high = max(first, begin), min(first + local.shape[0], begin + count)
            if low < high:
                local[low - first : high - first].copy_(piece[low - begin : high - begin])
