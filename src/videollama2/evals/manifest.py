"""The manifest of a run: everything that its numbers depend on, written before the first question.

"run" identifies the run: a folder whose manifest differs there is not resumed. "environment" may differ between two
parts of a run; the manifest then lists both, and the report says so.
"""

import hashlib
import json
import platform
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import av
import torch

from .. import __version__
from ..errors import DataError, UsageError
from ..jobs import EnginePool, abridged, backend_of, with_backend, write_json
from ..weights.digest import weights_sha256
from .benchmark import Benchmark
from .items import Item, Loaded, Setting
from .loop import MediaOptions

FILE = "manifest.json"
_LIBRARIES = ("torch", "transformers", "numpy", "av", "pillow", "safetensors")
_MISSING_NAMED = 20  # missing media that a manifest names; results.jsonl has them all


def manifest(
    engine: Any,
    benchmark: Benchmark,
    loaded: Loaded,
    items: Sequence[Item],
    *,
    setting: Setting,
    media_options: MediaOptions,
    batch: int | None,
    limit: int | None,
    folder: Path,
) -> dict[str, Any]:
    """The manifest of a run.

    Args:
        engine: an Engine, anything with its `name`, `model` and `protocol`, or a pool whose facts are `all_facts`.
        loaded: the whole benchmark, of which `items` are asked.
        folder: of the benchmark's files.
    """
    facts = facts_of(engine)
    frames = facts.frames if media_options.frames is None else media_options.frames
    return {
        "run": {
            "benchmark": benchmark.name,
            "setting": setting,
            "model": engine.name,
            **facts.backend,
            "weights_sha256": facts.weights_sha256(),
            "dtype": facts.dtype,
            "protocol": media_options.protocol or engine.protocol.name,
            "frames": frames,
            "prompts_sha256": prompts_sha256(items),
            "temperature": 0.0,
            "seed": None,
            "batch": "by clip" if batch is None else batch,
            "limit": limit,
        },
        "environment": [facts.environment()],
        "title": benchmark.title,
        "source": benchmark.source,
        "kind": benchmark.kind,
        "metric": benchmark.metric,
        "data": str(folder),
        "coverage": coverage(loaded, items),
    }


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a run's numbers depend on in a model. The functions take time.

    Attributes:
        frames: of a video, by default.
        backend: `jobs.backend_of`; weights of a GGUF file have no hash.
    """

    frames: int | None
    dtype: str
    backend: Mapping[str, str]
    weights_sha256: Callable[[], str | None]
    environment: Callable[[], dict[str, Any]]


def facts_of(engine: Any) -> Facts:
    """The facts of an engine, or of those of a pool."""
    if isinstance(engine, EnginePool):
        frames, dtype, around = engine.facts
        return Facts(
            frames=frames, dtype=dtype, backend=engine.backend, weights_sha256=lambda: engine.weights_sha256,
            environment=lambda: around,
        )  # fmt: skip
    model = engine.model
    return Facts(
        frames=getattr(model.config, "num_frames", None),
        dtype=str(model.dtype).removeprefix("torch."),
        backend=backend_of(engine),
        weights_sha256=lambda: weights_sha256(model),
        environment=lambda: environment(model),
    )


def all_facts(engine: Any) -> tuple[int | None, str, dict[str, Any]]:
    """The facts of an engine as data, for a pool's `facts`; the pool itself knows its weights."""
    facts = facts_of(engine)
    return facts.frames, facts.dtype, facts.environment()


def environment(model: Any) -> dict[str, Any]:
    """Device, versions, decoder libraries, and the commit of a checkout."""
    device = torch.device(model.device)
    name = (
        torch.cuda.get_device_name(device) if device.type != "cpu" and torch.cuda.is_available() else platform.machine()
    )
    return {
        "device": device.type,
        "device_name": name,
        "videollama2": __version__,
        "commit": commit(),
        "python": platform.python_version(),
        "libraries": {library: _version(library) for library in _LIBRARIES},
        "decoder": {name: ".".join(map(str, numbers)) for name, numbers in sorted(av.library_versions.items())},
    }


def coverage(loaded: Loaded, items: Sequence[Item]) -> dict[str, Any]:
    """How much of the benchmark is asked, and which media are missing."""
    malformed = [item for item in items if item.malformed is not None]
    missing = [item for item in items if item.missing is not None and item.malformed is None]
    return {
        "available": len(loaded.items),
        "asked": len(items),
        "with_media": len(items) - len(missing) - len(malformed),
        "missing": len(missing),
        "missing_named": [f"{item.id}: {item.missing}" for item in missing[:_MISSING_NAMED]],
        "malformed": len(malformed),
        "malformed_named": [str(item.malformed) for item in malformed[:_MISSING_NAMED]],
        "scored": sum(bool(item.truth) for item in items),
        "notes": list(loaded.notes),
    }


def settle(path: Path, new: Mapping[str, Any]) -> dict[str, Any]:
    """Write a run's manifest, or check that an existing one is of the same run; returns the manifest on disk.

    Raises:
        UsageError: the folder holds a different run; the message lists the differences.
        DataError: the existing manifest can't be read.
        StorageError: the manifest can't be written.
    """
    if not path.exists():
        write_json(path, new)
        return dict(new)
    old = read_manifest(path.parent)
    before = with_backend(old["run"])
    differ = [
        f"{key} was {abridged(before.get(key))}, now {abridged(value)}"
        for key, value in new["run"].items()
        if before.get(key) != value
    ]
    if differ:
        raise UsageError(
            f"{path.parent} holds a different run: {'; '.join(differ)}. Use the same settings, or name another folder "
            "with --out."
        )
    known = [entry for entry in new["environment"] if entry not in old["environment"]]
    if known or old["coverage"] != new["coverage"]:
        old = {**old, "coverage": new["coverage"], "environment": [*old["environment"], *known]}
        write_json(path, old)
    return old


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest in a run's folder.

    Raises:
        DataError: it is missing or malformed.
    """
    path = folder / FILE
    try:
        found = json.loads(path.read_bytes())
        if not isinstance(found["run"], dict) or not isinstance(found["environment"], list):
            raise TypeError("expected an object 'run' and a list 'environment'")
    except FileNotFoundError as error:
        raise DataError(f"{folder}: no {FILE}; expected the folder of a run (OUT/BENCHMARK).") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: not the manifest of a run ({error}); restore it, or use another folder.") from error
    return dict(found)


def prompts_sha256(items: Sequence[Item]) -> str:
    """Hash of the questions: ids, words, options and reply lengths. Missing media don't change it."""
    asked = [[i.id, i.system, i.question, i.choices, i.max_new_tokens] for i in items]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()


def commit() -> str | None:
    """The commit of the checkout that this package runs from, with + if files differ from it; None outside one."""
    here = Path(__file__).resolve().parent
    try:
        found = subprocess.run(
            ["git", "--no-optional-locks", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+"],
            cwd=here, capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
        tracked = subprocess.run(["git", "ls-files", Path(__file__).name], cwd=here, capture_output=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip() if tracked.stdout else None


def _version(library: str) -> str | None:
    try:
        return version(library)
    except PackageNotFoundError:
        return None
