"""Device and dtype, chosen once at the edge, with the reason. An explicit choice is never overridden."""

import logging
import os
from dataclasses import dataclass

import torch

from .errors import UsageError

logger = logging.getLogger(__name__)

DTYPES = {
    "float32": torch.float32,
    "fp32": torch.float32,
    "float16": torch.float16,
    "fp16": torch.float16,
    "bfloat16": torch.bfloat16,
    "bf16": torch.bfloat16,
}


@dataclass(frozen=True)
class Placement:
    """Where a model runs, in which number format, and why."""

    device: torch.device
    dtype: torch.dtype
    reason: str


def choose(device: str | torch.device | None = None, dtype: str | torch.dtype | None = None) -> Placement:
    """A placement for this machine; what is given is taken.

    Raises:
        UsageError: an unknown name, or a device that this machine does not have.
    """
    chosen_device, device_reason = _device(device)
    chosen_dtype, dtype_reason = _dtype(dtype, chosen_device)
    placement = Placement(chosen_device, chosen_dtype, f"{device_reason}; {dtype_reason}")
    logger.info("running on %s in %s (%s)", chosen_device, str(chosen_dtype).removeprefix("torch."), placement.reason)
    return placement


def find(device: str | torch.device | None = None) -> torch.device:
    """The device of `choose`, without a choice of number format and without a word.

    Raises:
        UsageError: an unknown name, or a device that this machine does not have.
    """
    return _device(device)[0]


def own(device: torch.device) -> torch.device:
    """Of several GPUs, the one of this process where torchrun started it (LOCAL_RANK); other devices as they are."""
    return torch.device(device.type, int(os.environ.get("LOCAL_RANK", "0"))) if device.type == "cuda" else device


def _device(asked: str | torch.device | None) -> tuple[torch.device, str]:
    if asked is None or asked == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda"), f"{torch.cuda.get_device_name()} found"
        if torch.backends.mps.is_available():
            return torch.device("mps"), "Apple GPU found"
        return torch.device("cpu"), "no GPU found"
    try:
        device = torch.device(asked)
    except RuntimeError:
        raise UsageError(f"no device {asked!r}; expected 'auto', 'cpu', 'cuda', 'cuda:N' or 'mps'") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"device {asked!r} was asked for, but this torch sees no CUDA GPU; leave it out, or say 'cpu'")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UsageError("device 'mps' was asked for, but this machine has no Apple GPU; leave it out, or say 'cpu'")
    return device, "device as asked"


def _dtype(asked: str | torch.dtype | None, device: torch.device) -> tuple[torch.dtype, str]:
    if isinstance(asked, torch.dtype):
        return asked, "dtype as asked"
    if asked is not None and asked != "auto":
        if asked not in DTYPES:
            raise UsageError(f"no dtype {asked!r}; expected one of auto, {', '.join(DTYPES)}")
        return DTYPES[asked], "dtype as asked"
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return torch.bfloat16, "bfloat16 in hardware"
        return torch.float16, "a GPU without bfloat16"
    if device.type == "mps":
        return torch.float16, "float16 on Apple GPUs"
    # without these instructions bfloat16 products run some sixty times slower than float32 (docs/log.md)
    flags = _cpu_flags()
    if flags & {"avx512_bf16", "amx_bf16", "amx_tile", "bf16"}:
        return torch.bfloat16, "a CPU with bfloat16 instructions"
    return torch.float32, "a CPU without bfloat16 instructions"


def _cpu_flags() -> set[str]:
    """The processor's feature names, where the system lists them."""
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:  # noqa: PTH123 - not a user's path
            for line in file:
                if line.lower().startswith(("flags", "features")):
                    return set(line.split(":", 1)[1].split())
    except OSError:
        logger.debug("no /proc/cpuinfo; assuming no bfloat16 instructions")
    return set()
