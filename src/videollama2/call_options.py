"""The keywords of a processor's call, as transformers, its pipelines and TRL pass them.

Each keyword is used, changes nothing (None, or the only supported value), or is rejected by name: none is ignored.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from transformers.processing_utils import ProcessingKwargs

from .errors import UsageError, did_you_mean

MODALITY_KWARGS = ("common_kwargs", "text_kwargs", "images_kwargs", "videos_kwargs", "audio_kwargs")
IMAGE_SETTINGS = (
    "size", "crop_size", "do_center_crop", "image_mean", "image_std", "resample", "rescale_factor", "do_resize",
    "do_rescale", "do_normalize", "do_convert_rgb",
)  # fmt: skip
# keywords with one supported behaviour; any other value is rejected
_ALWAYS: dict[str, tuple[Any, ...]] = {
    "return_attention_mask": (True,),
    "verbose": (True,),
    "load_audio_backend": ("auto",),
    "device": ("cpu",),
    "add_special_tokens": (True,),
}
_INSTEAD = {
    "video_metadata": "pass a list of frames as a part with times",
    "device": "move the batch with .to(device)",
    "text_pair": "put both into one message",
    "audio_from_video_indices": "each video's sound is used with it",
}


@dataclass(frozen=True, kw_only=True)
class CallOptions:
    """The options of one call.

    Attributes:
        padding: True or "longest", "max_length", False; None: pad if tensors are returned.
        return_tensors: "pt"; "np" for arrays; or None for lists of ids (media are tensors then).
        add_special_tokens: False: a question is not wrapped into a user's turn.
        sanitize_control_tokens: False: typed text may contain control tokens and media tags.
        load_audio_from_video: whether a video's sound is used; None: yes.
        image_settings: changes to the checkpoint's image settings.
    """

    padding: bool | str | None = None
    padding_side: str | None = None
    pad_to_multiple_of: int | None = None
    truncation: bool | str | None = None
    max_length: int | None = None
    return_tensors: str | None = None
    add_special_tokens: bool | None = None
    sanitize_control_tokens: bool | None = None
    return_mm_token_type_ids: bool | None = None
    num_frames: int | None = None
    fps: float | None = None
    do_sample_frames: bool | None = None
    load_audio_from_video: bool | None = None
    sampling_rate: int | None = None
    image_settings: tuple[tuple[str, Any], ...] = ()

    @classmethod
    def read(cls, kwargs: Mapping[str, Any], return_tensors: str | None) -> "CallOptions":
        """From keywords, flat or by modality (`text_kwargs`, `images_kwargs`, …).

        Args:
            return_tensors: default, if the keywords have none.

        Raises:
            UsageError: an unknown keyword, one passed twice, or an unsupported value.
        """
        flat = flattened(kwargs)
        own = {field.name for field in fields(cls)} - {"image_settings"}
        values: dict[str, Any] = {"return_tensors": return_tensors}
        settings: list[tuple[str, Any]] = []
        if "use_audio_in_video" in flat:  # its name before transformers 5
            _once("load_audio_from_video", flat)
            flat["load_audio_from_video"] = flat.pop("use_audio_in_video")
        for name, value in flat.items():
            if name in own:
                values[name] = value
            elif name in IMAGE_SETTINGS:
                settings += [] if value is None else [(name, value)]
            elif value is not None and value is not False and value not in _ALWAYS.get(name, ()):
                instead = f"; {_INSTEAD[name]}" if name in _INSTEAD else ""
                known = name in _KNOWN or name in _INSTEAD
                raise UsageError(
                    f"{name}={value!r:.60} is not supported{instead}"
                    if known
                    else f"unknown keyword {name}{did_you_mean(name, [*own, *IMAGE_SETTINGS])}"
                )
            elif name not in _KNOWN and name not in _INSTEAD:
                raise UsageError(f"unknown keyword {name}{did_you_mean(name, [*own, *IMAGE_SETTINGS])}.")
        options = cls(**values, image_settings=tuple(settings))
        options._check()
        return options

    def _check(self) -> None:
        if self.padding not in (None, True, False, "longest", "max_length", "do_not_pad"):
            raise UsageError(f"padding={self.padding!r}; expected padding=True, False or 'max_length'.")
        if self.padding == "max_length" and self.max_length is None:
            raise UsageError("padding='max_length' requires max_length; or pass padding=True to pad to the longest.")
        if self.return_tensors not in ("pt", "np", None):
            raise UsageError(f"return_tensors={self.return_tensors!r}; expected 'pt', 'np', or None for lists.")
        if self.padding_side not in ("left", "right", None):
            raise UsageError(
                f"padding_side is {self.padding_side!r}; expected 'left' (generation) or 'right' (training)."
            )
        if self.truncation not in (None, True, False, "longest_first", "only_first", "do_not_truncate"):
            raise UsageError(f"truncation={self.truncation!r}; expected True or False.")
        for name in ("max_length", "pad_to_multiple_of", "sampling_rate"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
                raise UsageError(f"{name}={value!r}; expected an integer of 1 or more.")
        if self.num_frames is not None and self.fps is not None:
            raise UsageError("num_frames and fps both set how many frames to sample; pass only one of them.")

    @property
    def truncates(self) -> bool:
        """Whether longer prompts are cut to `max_length`."""
        return self.truncation not in (None, False, "do_not_truncate")

    @property
    def pads(self) -> bool:
        """Whether rows are padded to one length."""
        return self.return_tensors is not None if self.padding is None else self.padding not in (False, "do_not_pad")

    def width(self, longest: int) -> int:
        """The length of a padded row."""
        width = longest if self.padding != "max_length" else max(longest, self.max_length or 0)
        multiple = self.pad_to_multiple_of or 1
        return -(-width // multiple) * multiple


def flattened(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Keywords by modality among the others.

    `padding`, `max_length` and `truncation` of audio are rejected: they would cut the waveform.

    Raises:
        UsageError: one is given twice with different values.
    """
    flat = {name: value for name, value in kwargs.items() if name not in MODALITY_KWARGS}
    nested: dict[str, Any] = {}
    for group in MODALITY_KWARGS:
        for name, value in (kwargs.get(group) or {}).items():
            if group == "audio_kwargs" and name in ("padding", "max_length", "truncation", "pad_to_multiple_of"):
                if value not in (None, False, True, "longest"):
                    raise UsageError(f"audio_kwargs: {name}={value!r} is not supported; the protocol sets the length.")
                continue
            if name in flat and (group != "common_kwargs" or flat[name] != value):
                raise UsageError(f"{name} was passed twice: in {group} and as a keyword.")
            if name in nested and nested[name] != value:
                raise UsageError(f"{name} has two values, {nested[name]!r} and {value!r}; images and videos share it.")
            nested[name] = value
    return {**flat, **nested}


def _once(name: str, flat: Mapping[str, Any]) -> None:
    if name in flat:
        raise UsageError(f"{name} was passed twice, once under its old name.")


_KNOWN = {
    name
    for group in ProcessingKwargs.__annotations__.values()
    for name in getattr(group, "__annotations__", {})
} | set(ProcessingKwargs.__annotations__)  # fmt: skip
