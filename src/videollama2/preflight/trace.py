"""The memory of a model's stages, found by running them on the meta device, where tensors have no data.

Each operation's outputs are counted while they are alive, so the peak follows from the code, for any size, without a
formula that could drift from it. Memory that an operation allocates internally is not counted; attention is assumed to
be the fused kernel, which keeps no scores. A training step is traced with the same two modes (preflight/training.py).
"""

import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ..configuration import VideoLlama2Config
from ..modeling import VideoLlama2ForConditionalGeneration


def on_meta(config: VideoLlama2Config, dtype: torch.dtype) -> VideoLlama2ForConditionalGeneration:
    """The model on the meta device, in evaluation mode."""
    with torch.device("meta"):
        network = VideoLlama2ForConditionalGeneration(config)
    return network.to(dtype).eval().requires_grad_(False)


@dataclass(frozen=True)
class Stage:
    """One step on the way to the first token.

    Attributes:
        name: `vision`, `audio` or `prefill`.
        peak: most bytes of activations alive at once, with inputs, without weights.
        kept: bytes that the next stages use: tokens, or the KV cache.
        touched: names of the parameters that were read completely.
        tokens: of its output in the prompt; for `prefill`, of the whole prompt.
    """

    name: str
    peak: int
    kept: int
    touched: frozenset[str]
    tokens: int


class Live(TorchDispatchMode):
    """Counts the bytes of storages that operations allocated and nothing has freed yet."""

    def __init__(self, parameters: Mapping[int, str]) -> None:
        super().__init__()
        self.parameters = parameters  # storage address → name
        self.alive: dict[int, int] = {}
        self.now = self.peak = 0
        self.touched: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not torch.ops.aten.embedding.default:  # it reads a few rows only
            for tensor in tree_leaves((args, kwargs)):
                if isinstance(tensor, Tensor) and (name := self.parameters.get(_address(tensor))):
                    self.touched.add(name)
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                self.count(tensor)
        return out

    def count(self, tensor: Tensor) -> None:
        """Count a tensor from now on."""
        storage, address = tensor.untyped_storage(), _address(tensor)
        if address in self.parameters or address in self.alive:
            return
        self.alive[address] = storage.nbytes()
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._freed, address)

    def _freed(self, address: int) -> None:
        self.now -= self.alive.pop(address, 0)


_GROUPED = tuple(f for f in (getattr(F, "grouped_mm", None), getattr(torch, "_grouped_mm", None)) if f is not None)


class _Kernel(torch.autograd.Function):
    """An operation that allocates its output alone and keeps, for its gradients, its inputs and perhaps its output."""

    @staticmethod
    def forward(ctx: Any, shape: tuple[int, ...], keeps_output: bool, *inputs: Tensor) -> Tensor:
        out = inputs[0].new_empty(shape)
        ctx.save_for_backward(*inputs, *([out] if keeps_output else []))
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        needed = ctx.needs_input_grad[2:]
        inputs = ctx.saved_tensors[: len(needed)]
        return None, None, *(torch.empty_like(x) if need else None for x, need in zip(inputs, needed, strict=True))


class Fused(TorchFunctionMode):
    """Run attention, and products with a mixture's experts, as one kernel each."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            named = dict(zip(("query", "key", "value"), args, strict=False)) | kwargs
            query, key, value = named["query"], named["key"], named["value"]
            return _Kernel.apply((*query.shape[:-1], value.shape[-1]), True, query, key, value)
        if func in _GROUPED:
            rows, experts = args[0], args[1]
            experts.detach()  # counted as read
            return _Kernel.apply((rows.shape[0], experts.shape[-1]), False, rows, experts)
        return func(*args, **kwargs)


def _address(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def trace(
    model: VideoLlama2ForConditionalGeneration,
    *,
    frames: int | None = None,
    still: bool = False,
    fbank_frames: int | None = None,
    text_tokens: int = 0,
) -> list[Stage]:
    """The stages of answering about one media item, in order.

    Args:
        model: on the meta device, in the dtype that it will run in.
        frames: of the video; None: no video.
        still: the media item is an image (`frames` is 1).
        fbank_frames: frames of the audio's input features; None: no audio.
        text_tokens: text tokens of the prompt.
    """
    names = {_address(p): n for n, p in (*model.named_parameters(), *model.named_buffers())}
    stages: list[Stage] = []
    config: Any = model.config
    if frames is not None:
        size = config.vision_config.image_size
        pixels = torch.empty(1, frames, 3, size, size, device="meta")
        see = model.model.get_image_features if still else model.model.get_video_features
        stages.append(_stage("vision", names, [pixels], lambda: see(pixels[:, 0] if still else pixels).pooler_output))
    if fbank_frames is not None:
        fbank = torch.empty(1, fbank_frames, config.audio_config.bins, device="meta")
        stages.append(_stage("audio", names, [fbank], lambda: model.model.get_audio_features(fbank).pooler_output))
    length = text_tokens + sum(s.tokens for s in stages)
    prompt = torch.empty(1, length, config.text_config.hidden_size, dtype=model.dtype, device="meta")
    prefill = lambda: model(inputs_embeds=prompt, use_cache=True, logits_to_keep=1)  # noqa: E731
    stages.append(_stage("prefill", names, [prompt], prefill))
    return stages


def _stage(name: str, parameters: Mapping[int, str], inputs: list[Tensor], run: Callable[[], Any]) -> Stage:
    with torch.no_grad(), Fused(), Live(parameters) as live:
        for tensor in inputs:
            live.count(tensor)
        given = live.now
        out = run()
        kept = live.now - given
    tokens = sum(len(x) for x in out) if isinstance(out, list) else inputs[0].shape[1]
    return Stage(name, live.peak, kept, frozenset(live.touched), tokens)
