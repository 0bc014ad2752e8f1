"""The public implementation's two functions, with its signatures, on any device (spec §3.2, §5.2).

    model, processor, tokenizer = model_init("folder")
    mm_infer(processor["video"]("clip.mp4", va=True), "What happens?", model=model, tokenizer=tokenizer, modal="video")

Deliberate differences: nothing is downloaded implicitly, a video without audio is reported by a warning, audio longer
than 30 s is cut to its beginning instead of at random, and user text never acts as control tokens.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from .errors import UnsupportedModality, UsageError
from .generation.batch import generate
from .generation.sampling import GenerateOptions
from .media import PixelSettings, audio_input, open_clip, pixel_values
from .media.sampling import released_range
from .protocols import RELEASED
from .receipt import MODALITIES
from .text.prompts import Message, build_prompt, released_messages, stop_token_ids

logger = logging.getLogger(__name__)
DEFAULT_MODEL = "DAMO-NLP-SG/VideoLLaMA2-7B"
# of what the processor's callables return; None: any size
_SHAPES: dict[str, tuple[int | None, ...]] = {
    "image": (1, 3, None, None),
    "video": (None, 3, None, None),
    "audio": (1, None, 128),
    "text": (),
}

Preprocess = Callable[..., Any]


def model_init(model_path: str | None = None, **kwargs: Any) -> tuple[Any, dict[str, Preprocess], Any]:
    """Load a model like the public implementation's function of the same name.

    Args:
        model_path: a folder, a hub id or a released name; None: VideoLLaMA2-7B, as in the original.
        kwargs: `device`, `dtype` (or `torch_dtype`), `model_base`, `load_8bit`, `load_4bit`, `use_flash_attn`, and
            what transformers' from_pretrained takes.

    Returns:
        (model, {"image": …, "video": …, "audio": …}, tokenizer); the callables turn files into tensors.
    """
    from .loading import load

    options = dict(kwargs)
    options["dtype"] = options.pop("torch_dtype", options.get("dtype"))
    options["base"] = options.pop("model_base", options.get("base"))
    if options.pop("use_flash_attn", False):
        options["attn_implementation"] = "flash_attention_2"
    eight, four = options.pop("load_8bit", False), options.pop("load_4bit", False)
    if eight or four:
        from .weights.quantise import quantisation_config

        options["quantization_config"] = quantisation_config(4 if four else 8)
    engine = load(model_path or DEFAULT_MODEL, protocol=RELEASED, **options)
    settings, num_frames = engine.processor.pixels, engine.model.config.num_frames
    processor: dict[str, Preprocess] = {}
    if settings is not None:
        processor["image"] = partial(process_image, settings=settings)
        processor["video"] = partial(process_video, settings=settings, num_frames=num_frames)
    if engine.model.config.audio_config is not None:
        processor["audio"] = process_audio
    return engine.model, processor, engine.processor.tokenizer


def process_image(image_path: Any, settings: PixelSettings, aspect_ratio: str | None = None) -> Tensor:
    """float32 [1, 3, S, S] from an image's path (or a PIL image, or an array)."""
    clip = open_clip(image_path, num_frames=1, protocol=RELEASED, want_audio=False)
    return pixel_values(clip.frames[:1], settings, "pad" if aspect_ratio == "pad" else "none")


def process_video(
    video_path: Any,
    settings: PixelSettings,
    s: float | None = None,
    e: float | None = None,
    aspect_ratio: str | None = None,
    num_frames: int | None = 8,
    va: bool = False,
) -> Tensor | dict[str, Tensor]:
    """float32 [T, 3, S, S] from a video, a folder of frames, or a list of images.

    With `va`, {"video": that, "audio": bfloat16 [1, frames, 128]} of the eight windows of its audio (spec §4.5).
    """
    start, end = released_range(s, e)
    clip = open_clip(video_path, num_frames=num_frames, protocol=RELEASED, start=start, end=end, want_audio=va)
    pixels = pixel_values(clip.frames, settings, "pad" if aspect_ratio == "pad" else "none")
    if not va:
        return pixels
    audio = audio_input(clip, RELEASED)
    if audio.fbank is None or audio.receipt.state != "used":
        logger.warning("%s: the audio is %s; the model gets silence", clip.source, audio.receipt.state)
    if audio.fbank is None:
        raise UnsupportedModality(f"{clip.source} can't have audio; call without va=True.")
    return {"video": pixels, "audio": audio.fbank[None]}


def process_audio(wav_path: Any) -> Tensor:
    """bfloat16 [1, 2998, 128] from an audio file: its first channel, cut or padded to 30 s (spec §4.4)."""
    clip = open_clip(wav_path, protocol=RELEASED, want_video=False)
    audio = audio_input(clip, RELEASED)
    assert audio.fbank is not None  # open_clip raises if there is no audio
    return audio.fbank[None]


def mm_infer(
    image_or_video: Tensor | Mapping[str, Tensor] | None,
    instruct: str | Sequence[Message],
    model: Any,
    tokenizer: Any,
    modal: str = "video",
    **kwargs: Any,
) -> str:
    """Answer like the public implementation's function of the same name.

    Args:
        image_or_video: what the processor's callables return; None for text.
        instruct: the question, or messages of which the first is the user's.
        modal: `image`, `video`, `audio` or `text`.
        kwargs: `do_sample`, `temperature`, `top_p`, `max_new_tokens`.

    Raises:
        UsageError: an unknown modal or keyword.
        UnsupportedModality: the model has no encoder for it.
    """
    if modal not in _SHAPES:
        raise UsageError(f"modal is {modal!r}; expected one of {', '.join(_SHAPES)}.")
    options = _options(model, kwargs)
    features = _features(model, image_or_video, modal)
    prompt = build_prompt(
        released_messages(instruct, None if modal == "text" else modal),  # type: ignore[arg-type]
        tokenizer,
        system_prompt=model.config.system_prompt,
    )
    counts = [{kind: len(f) for kind, f in features.items()}] if features else []
    encoded = prompt.expand(counts, model.config.placeholder_ids)  # type: ignore[arg-type]
    stop_ids = stop_token_ids(tokenizer, model.generation_config)
    with torch.inference_mode():
        input_ids = torch.tensor([encoded.input_ids], device=model.device)
        by_kind = {kind: [features[kind]] if kind in features else [] for kind in MODALITIES}
        embeds = model.model.embed_features(input_ids, by_kind["image"], by_kind["video"], by_kind["audio"])
        (ids,) = generate(model, embeds, options, stop_ids)
    text: str = tokenizer.decode(ids, skip_special_tokens=True)
    return text.strip()


def _options(model: Any, kwargs: dict[str, Any]) -> GenerateOptions:
    known = {"do_sample", "temperature", "top_p", "max_new_tokens", "seed"}
    unknown = sorted(set(kwargs) - known)
    if unknown:
        raise UsageError(f"mm_infer has no option {', '.join(unknown)}; expected some of {', '.join(sorted(known))}.")
    sampling = kwargs.get("do_sample", False)
    options = GenerateOptions(
        max_new_tokens=kwargs.get("max_new_tokens", 2048),
        temperature=kwargs.get("temperature", 0.2) if sampling else 0.0,
        top_p=kwargs.get("top_p", 0.9),
        top_k=50 if model.generation_config.top_k is None else None,  # transformers' default at the time
        seed=kwargs.get("seed"),
    )
    return options.with_defaults(model.generation_config)


@torch.inference_mode()
def _features(model: Any, given: Tensor | Mapping[str, Tensor] | None, modal: str) -> dict[str, Tensor]:
    """Features of what the callables returned, [tokens, D] per kind."""
    if modal == "text":
        return {}
    if isinstance(given, Mapping):
        if modal != "video" or set(given) != {"video", "audio"}:
            raise UsageError(f"found {sorted(given)} with modal {modal!r}; expected 'video' and 'audio' with 'video'.")
        return {**_features(model, given["video"], "video"), **_features(model, given["audio"], "audio")}
    shape = _SHAPES[modal]
    if (
        not isinstance(given, Tensor)
        or given.dim() != len(shape)
        or any(expected not in (found, None) for expected, found in zip(shape, given.shape, strict=True))
    ):
        found = f"a tensor {list(given.shape)}" if isinstance(given, Tensor) else type(given).__name__
        raise UsageError(
            f"modal is {modal!r}, but {found} was passed; expected the output of processor[{modal!r}], "
            f"{list(shape)} (None: any number), or modal='text' for a question alone."
        )
    core, moved = model.model, given.to(model.device)
    if modal == "audio":
        return {"audio": core.get_audio_features(moved).pooler_output[0]}
    if modal == "image":
        return {"image": core.get_image_features(moved.to(model.dtype)).pooler_output[0]}
    return {"video": core.get_video_features(moved.to(model.dtype)[None]).pooler_output[0]}
