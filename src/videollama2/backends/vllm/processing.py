"""vLLM's multimodal processor, by means of ours: items → encoder inputs, placeholders and receipts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import BatchFeature
from vllm.inputs import MultiModalInput, mm_input
from vllm.multimodal.hasher import MultiModalHasher
from vllm.multimodal.inputs import MultiModalFieldConfig, MultiModalKwargsItems
from vllm.multimodal.parse import ModalityDataItems, MultiModalDataItems, MultiModalDataParser
from vllm.multimodal.processing import (
    BaseDummyInputsBuilder,
    BaseMultiModalProcessor,
    BaseProcessingInfo,
    PromptReplacement,
    PromptUpdate,
    PromptUpdateDetails,
)
from vllm.multimodal.processing.inputs import ProcessorInputs

from ...errors import PromptError
from ...media.recording import Recording
from ...processing import MediaInputs, VideoLlama2Processor
from ...protocols import protocol
from ...receipt import AudioReceipt, MediaReceipt, Modality, VideoReceipt, raise_losses
from ...text.tokenization import SLOT_IDS
from .configuring import served_processor
from .items import RequestOptions, ServedMedia, served_media

RECEIPTS = "videollama2_receipts"  # key of an engine input
_MODALITIES: tuple[Modality, ...] = ("image", "video", "audio")
_FIELDS = ("pixels", "still", "fbank")


@dataclass
class MediaTokens(PromptUpdateDetails):
    """The placeholders of an item, and its receipt, which vLLM caches together with them."""

    receipt: MediaReceipt | None = None


class MediaItems(ModalityDataItems[Sequence[Any], Any]):
    """The media items of one kind."""

    def get_count(self) -> int:
        """How many."""
        return len(self.data)

    def get(self, index: int) -> Any:
        """One of them."""
        return self.data[index]

    def get_processor_data(self) -> Mapping[str, object]:
        """For `_call_hf_processor`."""
        return {self.modality: list(self.data)}

    def get_passthrough_data(self) -> Mapping[str, object]:
        """None: everything is processed."""
        return {}


class DataParser(MultiModalDataParser):
    """Values of `multi_modal_data` → items; whatever a media part of a message may have as its source."""

    def __init__(self, default_protocol: str) -> None:
        super().__init__()
        self._protocol = default_protocol

    def parse_mm_data(self, mm_data: Mapping[str, Any]) -> MultiModalDataItems:
        """The items of each kind."""
        found = MultiModalDataItems()
        for kind in _MODALITIES:
            if (given := mm_data.get(kind)) is not None and len(sources := _sources(kind, given)):
                found[kind] = MediaItems([self._item(kind, source) for source in sources], kind)
        if unknown := sorted(set(mm_data) - set(_MODALITIES)):
            raise PromptError(f"multi_modal_data has {unknown[0]!r}; expected {', '.join(_MODALITIES)}.")
        return found

    def _item(self, kind: Modality, source: Any) -> ServedMedia:
        if isinstance(source, ServedMedia):
            return source
        if isinstance(source, tuple) and len(source) == 2:
            # vLLM's pairs: frames with metadata, samples with their rate
            first, second = source
            if kind == "audio":
                return served_media(kind, np.asarray(first), RequestOptions(), self._protocol,
                                  part={"sampling_rate": int(second)})  # fmt: skip
            source = first
        return served_media(kind, source, RequestOptions(), self._protocol)


def _sources(kind: Modality, given: Any) -> list[Any]:
    """One source or several; a list of frames is one video, a list of numbers one piece of audio."""
    if isinstance(given, tuple) and len(given) == 2 and not isinstance(given[0], ServedMedia):
        return [given]
    if not isinstance(given, list | tuple):
        several = getattr(given, "ndim", 0) == {"image": 4, "video": 5, "audio": 2}[kind]
        return list(given) if several else [given]
    whole = {"image": False, "video": bool(given) and _is_frame(given[0]), "audio": _are_numbers(given)}[kind]
    return [given] if whole else list(given)


def _is_frame(value: Any) -> bool:
    return getattr(value, "ndim", 0) == 3 or hasattr(value, "convert")


def _are_numbers(values: Sequence[Any]) -> bool:
    return bool(values) and isinstance(values[0], int | float)


class Info(BaseProcessingInfo):
    """What vLLM asks about the model before it processes anything."""

    @property
    def processor(self) -> VideoLlama2Processor:
        """Ours."""
        return served_processor(self.ctx.model_config)

    def get_data_parser(self) -> MultiModalDataParser:
        """See `DataParser`."""
        return DataParser(self.default_protocol)

    @property
    def default_options(self) -> RequestOptions:
        """What --mm-processor-kwargs chose."""
        return RequestOptions.read(self.ctx.get_merged_mm_kwargs({}))

    @property
    def default_protocol(self) -> str:
        """The protocol of requests without one."""
        return self.default_options.protocol or str(self.ctx.model_config.hf_config.protocol)

    def get_supported_mm_limits(self) -> Mapping[str, int | None]:
        """Any number of each kind that the model has an encoder for."""
        config = self.ctx.model_config.hf_config
        vision: dict[str, int | None] = {} if config.vision_config is None else {"image": None, "video": None}
        return vision | ({} if config.audio_config is None else {"audio": None})

    def get_mm_max_tokens_per_item(self, seq_len: int, mm_counts: Mapping[str, int]) -> Mapping[str, int]:
        """Of an image, of a video with its audio, of audio; as long as a prompt at most."""
        return {
            kind: min(seq_len, max(1, sum(self.largest(kind).receipt.tokens.values())))
            for kind in mm_counts
            if kind in self.supported_mm_limits
        }

    def largest(self, kind: Any) -> "Largest":
        """The largest item of a kind that the default protocol allows: vLLM rejects larger ones."""
        config, processor, chosen = self.ctx.model_config.hf_config, self.processor, protocol(self.default_protocol)
        video = audio = pixels = fbank = None
        if kind in ("image", "video") and processor.pixels is not None:
            most = max(chosen.max_frames, config.num_frames, self.default_options.num_frames or 0)
            frames = config.num_frames if kind == "image" else most
            height, width = processor.pixels.output_size
            pixels = torch.zeros(1 if kind == "image" else frames, 3, height, width)
            video = VideoReceipt(
                source="a test", kind=kind, range_seconds=None, frames_total=len(pixels), frames_used=len(pixels),
                times_seconds=None, tokens=processor.video_tokens(frames),
            )  # fmt: skip
        if kind in ("video", "audio") and config.audio_config is not None:
            rows = max(16, round(100 * chosen.audio_seconds))
            fbank = torch.zeros(rows, config.audio_config.bins)
            audio = AudioReceipt(source="a test", state="used", tokens=processor.audio_tokens(rows))
        inputs = MediaInputs(pixels=pixels, still=kind == "image", fbank=fbank)
        return Largest(inputs, MediaReceipt(source="a test", video=video, audio=audio))


@dataclass(frozen=True)
class Largest:
    """Inputs and receipt of an item that memory is measured with."""

    inputs: MediaInputs
    receipt: MediaReceipt


class DummyInputs(BaseDummyInputsBuilder[Info]):
    """The items that memory is measured with."""

    def get_dummy_text(self, mm_counts: Mapping[str, int]) -> str:
        """Unused: `Processor.get_dummy_inputs` writes ids."""
        return ""

    def get_dummy_mm_data(self, seq_len: int, mm_counts: Mapping[str, int], mm_options: Any) -> dict[str, Any]:
        """The largest item of each kind."""
        made: dict[str, Any] = {}
        for kind in _MODALITIES:
            if count := mm_counts.get(kind, 0):
                largest = self.info.largest(kind)
                chosen = protocol(self.info.default_protocol)
                item = ServedMedia(kind, None, chosen, decoded=(largest.inputs, largest.receipt), key=f"largest-{kind}")
                made[kind] = [item] * count
        return made


class Processor(BaseMultiModalProcessor[Info]):
    """MediaItems → encoder inputs; slots of the prompt → placeholders; receipts beside them."""

    def get_dummy_inputs(self, seq_len: int, mm_counts: Mapping[str, int], mm_options: Any) -> ProcessorInputs:
        """A prompt of slots alone."""
        data = self.dummy_inputs.get_dummy_mm_data(seq_len, mm_counts, mm_options)
        prompt = [SLOT_IDS[kind] for kind in _MODALITIES for _ in data.get(kind, ())]
        return ProcessorInputs(prompt=prompt, mm_data_items=self.info.parse_mm_data(data, validate=False))

    def apply(self, inputs: ProcessorInputs, timing_ctx: Any) -> MultiModalInput:
        """As vLLM's, with the receipts of the items in prompt order under the key `RECEIPTS`.

        Raises:
            MediaError, UnsupportedModality: an item can't be used; MediaLost: in strict mode, part of it.
        """
        options = RequestOptions.read(self.info.ctx.get_merged_mm_kwargs(inputs.hf_processor_mm_kwargs))
        result = self._cached_apply_hf_processor(inputs, timing_ctx)
        receipts = {
            kind: [
                _named(update[0].content.receipt, item)
                for update, item in zip(updates, inputs.mm_data_items[kind], strict=True)
            ]
            for kind, updates in result.prompt_updates.items()
        }
        with timing_ctx.record("apply_prompt_updates"):
            ids, placeholders = self._maybe_apply_prompt_updates(mm_items=inputs.mm_data_items, mm_res=result)
        ranges = {kind: [found.to_range() for found in all_found] for kind, all_found in placeholders.items()}
        in_order = sorted((r.offset, kind, i) for kind, places in ranges.items() for i, r in enumerate(places))
        ordered = [receipts[kind][i] for _, kind, i in in_order]
        strict = [
            receipts[kind][i] for _, kind, i in in_order if options.strict or inputs.mm_data_items[kind][i].strict
        ]
        raise_losses([message for receipt in strict for message in receipt.loss_messages])
        made = mm_input(prompt_token_ids=ids, mm_kwargs=result.kwargs, mm_hashes=result.hashes, mm_placeholders=ranges)
        made[RECEIPTS] = ordered
        return made

    def key_of(self, item: ServedMedia) -> str:
        """What the caches of vLLM know an item by."""
        algorithm = self.info.ctx.get_mm_config().mm_hasher_algorithm

        def hash_content(source: Any) -> str:
            return str(MultiModalHasher.hash_kwargs(algorithm, source=_hashable(source)))

        return item.key(hash_content, f"{self.info.model_id} {self.info.ctx.model_config.hf_config.num_frames}")

    def _get_mm_hashes(self, inputs: ProcessorInputs) -> dict[str, list[str]]:
        uuids = inputs.mm_uuid_items or {}
        for kind, items in inputs.mm_data_items.items():
            for item, uuid in zip(items, uuids.get(kind) or [], strict=False):
                item.uuid = item.uuid or uuid
        return {kind: [self.key_of(item) for item in items] for kind, items in inputs.mm_data_items.items()}

    def _call_hf_processor(self, hf_data: Mapping[str, object], hf_kwargs: Mapping[str, object]) -> BatchFeature:
        made: dict[str, Any] = {}
        config, pixels = self.info.ctx.model_config.hf_config, self.info.processor.pixels
        size = (0, 0) if pixels is None else pixels.output_size
        bins = 128 if config.audio_config is None else config.audio_config.bins
        for kind, items in hf_data.items():
            assert isinstance(items, list)
            decoded = [item.decoded(self.info.processor)[0] for item in items]
            # a field exists in every item: of what an item lacks there are no frames
            made[f"{kind}_pixels"] = [
                torch.zeros(0, 3, *size) if inputs.pixels is None else inputs.pixels for inputs in decoded
            ]
            made[f"{kind}_still"] = torch.tensor([inputs.still for inputs in decoded])
            made[f"{kind}_fbank"] = [
                torch.zeros(0, bins) if inputs.fbank is None else inputs.fbank for inputs in decoded
            ]
        return BatchFeature(made)

    def _get_hf_mm_inputs(self, mm_items: MultiModalDataItems, hf_kwargs: Mapping[str, object]) -> Any:
        from vllm.multimodal.processing.processor import HFMultiModalInputs

        return HFMultiModalInputs({kind: list(items) for kind, items in mm_items.items() if items}, hf_kwargs, {})

    def _get_mm_fields_config(
        self, hf_inputs: BatchFeature, hf_processor_mm_kwargs: Mapping[str, object]
    ) -> Mapping[str, MultiModalFieldConfig]:
        return {
            f"{kind}_{field}": MultiModalFieldConfig.batched(kind, keep_on_cpu=field == "still")
            for kind in _MODALITIES
            for field in _FIELDS
        }

    def _get_prompt_updates(
        self,
        mm_items: MultiModalDataItems,
        hf_processor_mm_kwargs: Mapping[str, object],
        out_mm_kwargs: MultiModalKwargsItems,
    ) -> Sequence[PromptUpdate]:
        filler = int(self.info.processor.tokenizer.pad_token_id or 0)

        def placeholders(kind: Any) -> Any:
            def of_item(index: int) -> MediaTokens:
                _, receipt = mm_items[kind][index].decoded(self.info.processor)
                tokens = sum(receipt.tokens.values())
                if tokens < 1:
                    raise PromptError(
                        f"{receipt.source} has nothing that the model can use; expected frames or audio. Remove it "
                        "from the message, or send another range of it."
                    )
                return MediaTokens([filler] * tokens, receipt=receipt)

            return of_item

        kinds = [kind for kind in _MODALITIES if kind in mm_items]
        return [PromptReplacement(kind, [SLOT_IDS[kind]], placeholders(kind)) for kind in kinds]


def _named(receipt: MediaReceipt, item: ServedMedia) -> MediaReceipt:
    return receipt.renamed(item.name) if item.media is not None or item.uuid is not None else receipt


def _hashable(source: Any) -> Any:
    """A source in a form that vLLM hashes by content."""
    if isinstance(source, Recording):
        return {"frames": list(source.frames), "times": list(source.times), "samples": source.samples}
    if isinstance(source, str | PathLike):
        path = Path(fspath(source))
        if path.is_file():
            return path.read_bytes()
        if path.is_dir():
            return sorted((str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in path.iterdir())
    return source  # of a missing file, opening it raises the error
