"""Peak memory of loading and answering, predicted from sizes (docs/log.md says how far off it was)."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from .. import device
from ..device import Placement
from ..modeling import VideoLlama2ForConditionalGeneration
from ..weights.files import OnDisk
from .describe import Subject
from .trace import Stage

STORED = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "I64": 8, "I32": 4, "I8": 1, "U8": 1}
TORCH_NAMES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "F64": torch.float64}


@dataclass(frozen=True)
class MemoryNeed:
    """Predicted bytes of one memory.

    Attributes:
        kind: `RAM`, or the GPU's name.
        baseline: what the process occupies before loading.
        weights: of the model in its dtype.
        loading: most that is occupied while loading; `reclaimable` of it are file pages that the system can take back.
        stages: most that is occupied in each stage of answering.
        answering: the most of them.
        available, total: of this machine.
        fits: whether the most that can't be taken back is available.
    """

    kind: str
    baseline: int
    weights: int
    loading: int
    reclaimable: int
    stages: dict[str, int]
    answering: int
    available: int
    total: int
    fits: bool


def memory_needs(
    placement: Placement,
    network: VideoLlama2ForConditionalGeneration,
    subject: Subject,
    stages: list[Stage],
    baseline: int,
    decoded: int,
    answer_cache: int,
) -> list[MemoryNeed]:
    """RAM, and the GPU before it where the model runs on one.

    Args:
        placement: where the model will run.
        network: on the meta device, in the dtype to be used.
        stages: of answering, traced.
        baseline: bytes that this process occupies before loading.
        decoded: bytes of decoded frames.
        answer_cache: bytes of keys and values of the answer's tokens.
    """
    weights = {name: p.numel() * p.element_size() for name, p in network.named_parameters()}
    weights |= {n: b.numel() * b.element_size() for n, b in network.named_buffers() if n in network.state_dict()}
    stored, mapped = _stored_bytes(network, subject, placement.dtype)
    ram = device.ram()
    if placement.device.type == "cuda":
        gpu = device.gpu()
        assert gpu is not None  # a device that is not there is refused when it is chosen
        held = sum(weights.values())
        peaks = _peaks(stages, device.CUDA_CONTEXT + held, weights, frozenset(), answer_cache)
        host = baseline + sum(stored.values())
        loading = device.CUDA_CONTEXT + held
        return [
            _need(gpu, device.CUDA_CONTEXT, held, loading, 0, peaks, device.CUDA_CONTEXT if _cuda_ready() else 0),
            _need(ram, baseline, 0, host, sum(stored.values()), {"all": baseline + decoded}, baseline),
        ]
    copied = sum(size for name, size in weights.items() if name not in mapped)
    pages = sum(size for name, size in stored.items() if name not in mapped)
    peaks = _peaks(stages, baseline + copied + decoded + device.ALLOCATOR_SLACK, weights, mapped, answer_cache)
    return [_need(ram, baseline, sum(weights.values()), baseline + copied + pages, pages, peaks, baseline)]


def _peaks(
    stages: list[Stage], floor: int, weights: Mapping[str, int], mapped: frozenset[str], answer_cache: int
) -> dict[str, int]:
    """Occupied at most in each stage: the floor, mapped weights that were touched so far, what earlier stages left."""
    touched: set[str] = set()
    kept, peaks = 0, {}
    for stage in stages:
        touched |= stage.touched & mapped
        resident = floor + kept + sum(weights[name] for name in touched)
        grown = answer_cache if stage.name == "prefill" else 0
        peaks[stage.name] = resident + max(stage.peak, stage.kept + grown)
        kept += stage.kept
    return peaks


def _stored_bytes(
    network: VideoLlama2ForConditionalGeneration, subject: Subject, dtype: torch.dtype
) -> tuple[dict[str, int], frozenset[str]]:
    """Bytes on disk of each parameter, and those that are used from the file as they lie.

    A tensor of the asked dtype is not copied but mapped: its pages are read when they are first touched. What is
    converted, or put together of several tensors (Mixtral's experts), needs memory of its own beside its pages.
    """
    names = dict(network.named_parameters())
    if subject.collected is None:
        half = {name: p.numel() * 2 for name, p in names.items()}
        as_stored = dtype == torch.bfloat16
        return half, frozenset(n for n in names if as_stored and ".experts." not in n)
    tensors = subject.collected.tensors
    stored = {n: STORED.get(t.dtype, 4) * torch.Size(t.shape).numel() for n, t in tensors.items()}
    as_they_lie = {n for n, t in tensors.items() if isinstance(t, OnDisk) and TORCH_NAMES.get(t.dtype) == dtype}
    mapped = as_they_lie & set(names)
    # transformers gives some tensors (DINOv2's) other names as it loads them: as many as are left, of equal shapes
    renamed, left = as_they_lie - mapped, set(names) - set(tensors)
    if sorted(tuple(tensors[n].shape) for n in renamed) == sorted(tuple(names[n].shape) for n in left):
        stored |= {new: names[new].numel() * dtype.itemsize for new in left}
        stored = {n: size for n, size in stored.items() if n not in renamed}
        mapped |= left
    return stored, frozenset(mapped)


def _need(
    memory: device.Memory,
    baseline: int,
    weights: int,
    loading: int,
    reclaimable: int,
    stages: dict[str, int],
    used_already: int,
) -> MemoryNeed:
    answering = max(stages.values())
    needed = max(loading - reclaimable, answering) - used_already
    return MemoryNeed(
        kind=memory.name,
        baseline=baseline,
        weights=weights,
        loading=loading,
        reclaimable=reclaimable,
        stages=stages,
        answering=answering,
        available=memory.available,
        total=memory.total,
        fits=needed <= memory.available,
    )


def _cuda_ready() -> bool:
    return torch.cuda.is_available() and torch.cuda.is_initialized()
