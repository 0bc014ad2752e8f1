"""Peak memory of loading and answering, predicted from sizes (docs/log.md has the measured error)."""

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
        baseline: occupied by the process before loading.
        weights: of the model in its dtype.
        loading: peak while loading, of which `reclaimable` are file pages that the system can evict.
        stages: peak in each stage of answering.
        answering: the highest of them.
        available, total: of this machine.
        fits: whether the peak without reclaimable pages fits into available memory.
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
    """The RAM needed, after the GPU memory if the model runs on one.

    Args:
        placement: where the model will run.
        network: on the meta device, in the dtype that it will run in.
        stages: of answering, traced.
        baseline: bytes of this process before loading.
        decoded: bytes of decoded frames.
        answer_cache: bytes of keys and values of the answer's tokens.
    """
    weights = {name: p.numel() * p.element_size() for name, p in network.named_parameters()}
    weights |= {n: b.numel() * b.element_size() for n, b in network.named_buffers() if n in network.state_dict()}
    stored, mapped = _stored_bytes(network, subject, placement.dtype)
    ram = device.ram()
    if placement.device.type == "cuda":
        gpu = device.gpu()
        assert gpu is not None  # choosing a missing device raises
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
    """Peak of each stage: the floor, mapped weights touched so far, and what earlier stages keep."""
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
    """Bytes on disk of each parameter, and the parameters that are mapped from the file unchanged.

    A tensor in the requested dtype is mapped, not copied: its pages are read when first touched. A tensor that is
    converted, or joined from several (Mixtral's experts), occupies memory besides its pages.
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
    # transformers renames some tensors (DINOv2's) while loading: those left over, if their shapes are equal
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
