"""An Engine without weights: it decodes media, writes prompts and fills receipts, while vLLM generates."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig

from ...configuration import VideoLlama2Config
from ...device import Placement, choose, find
from ...encoded_media import DecodedMedia, EncodedMedia
from ...engine import Engine
from ...errors import UsageError
from ...generation.runner import Runner
from ...media import Opener
from ...media_cache import EncodedMediaCache, MediaCache, RecentlyUsed
from ...modeling import VideoLlama2ForConditionalGeneration
from ...processing import VideoLlama2Processor
from ...protocols import Protocol
from ...receipt import Receipt, source_name
from ...text.media_parts import Media
from ...weights import stages
from ...weights.meta import ShapesOnly
from .generator import Generator


class VllmDecoder:
    """What receipts and limits need of the engine that decodes; sequences go to it through serve/remote.py."""

    engine, weights = "vllm", ""
    max_batch: int | None = None

    def __init__(self, generator: Generator, positions: int) -> None:
        self._generator = generator
        self._positions = min(positions, int(generator.config.max_model_len))

    @property
    def arithmetic(self) -> str:
        """vLLM and its version."""
        return self._generator.name

    @property
    def max_positions(self) -> int:
        """The longest that vLLM was started for."""
        return self._positions

    def batch(self, *_: Any) -> Any:
        """Not here: vLLM batches requests itself.

        Raises:
            UsageError: always.
        """
        raise UsageError("vLLM answers behind the server only; use `videollama2 serve --engine vllm`, or torch here.")

    prefix_cache = batch


class RemoteRunner(Runner):
    """Fills receipts with where vLLM runs."""

    generator: Generator

    def _receipt(self, sequence: Any) -> Receipt:
        dtype = str(self.generator.config.dtype).removeprefix("torch.")
        return replace(super()._receipt(sequence), device=self.generator.device, dtype=dtype)


class RemoteEngine(Engine):
    """The half of an Engine that runs before and after the model."""

    def __init__(self, folder: Path, name: str, generator: Generator, protocol: str | Protocol | None) -> None:
        config = VideoLlama2Config.from_pretrained(folder)
        processor = VideoLlama2Processor.from_pretrained(folder, config=config)
        with ShapesOnly(), torch.device("meta"):
            model = VideoLlama2ForConditionalGeneration(config)
        if (folder / "generation_config.json").is_file():
            model.generation_config = GenerationConfig.from_pretrained(folder)
        placement = Placement(torch.device("meta"), generator.config.dtype, "vLLM runs the model")
        super().__init__(model, processor, name=name, placement=placement, default_protocol=protocol)
        self.generator = generator
        decoder = VllmDecoder(generator, config.max_positions)
        runner = RemoteRunner(model, processor, self.runner.stop_ids, self.lock, name, decoder)
        runner.generator = generator
        self.runner = runner

    def decode(
        self,
        media: Media,
        protocol: Protocol,
        *,
        cache: MediaCache | None = None,
        opener: Opener | None = None,
        name: str | None = None,
    ) -> DecodedMedia:
        """As of an Engine; a cached item has its inputs, and `encoded` without tokens."""
        if not isinstance(cache, DecodedMediaCache):
            return super().decode(media, protocol, cache=None, opener=opener, name=name)
        key = cache.key(media, protocol)
        found = None if key is None else cache.decoded(key)
        if found is None:
            made = super().decode(media, protocol, opener=opener, name=name)
            if key is not None:
                cache.add(key, made)
            return replace(made, key=key)
        receipt = found.receipt.renamed(name or source_name(media.source))
        return replace(found, receipt=receipt, encoded=EncodedMedia(tokens={}, receipt=receipt, reused=True), key=key)


class DecodedMediaCache(EncodedMediaCache):
    """Encoder inputs, the least recently used dropped; vLLM caches what the encoders make of them. Thread-safe."""

    def __init__(self, max_bytes: int, model: str) -> None:
        super().__init__(0, model=model)
        self._inputs: RecentlyUsed[DecodedMedia] = RecentlyUsed(max_bytes)

    @property
    def nbytes(self) -> int:
        """Memory of the cached inputs."""
        return self._inputs.nbytes

    def decoded(self, key: str) -> DecodedMedia | None:
        """The item cached under a key."""
        return self._inputs.get(key)

    def add(self, key: str, item: DecodedMedia) -> None:
        """Cache it, unless it is larger than the cache."""
        self._inputs.put(key, item, _nbytes(item))


def _nbytes(item: DecodedMedia) -> int:
    inputs = item.inputs
    return 0 if inputs is None else sum(t.nbytes for t in (inputs.pixels, inputs.fbank) if t is not None)


def load_on_vllm(folder: Path, name: str, *, protocol: str | Protocol | None = None, **arguments: Any) -> RemoteEngine:
    """Start vLLM with a checkpoint.

    Args:
        arguments: vLLM's engine arguments.

    Raises:
        UsageError: the folder is a training stage or an adapter. MissingExtra: no vLLM, or an unsupported version.
    """
    found = stages.kind(folder)
    if found != "complete":
        raise UsageError(
            f"{folder} is a {found} stage, and vLLM loads complete checkpoints only; merge it first: "
            f"`videollama2 merge {folder} MERGED`, then serve MERGED."
        )
    if arguments.get("dtype") == "auto" and find().type == "cpu":  # vLLM would take bfloat16, measured or not
        arguments["dtype"] = str(choose("cpu").dtype).removeprefix("torch.")
    arguments.setdefault("structured_outputs_config", {"backend": "guidance"})
    return RemoteEngine(folder, name, Generator(folder, **arguments), protocol)
