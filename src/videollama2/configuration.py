"""The configuration of a VideoLLaMA 2 model.

    VideoLlama2Config
    ├── vision_config   a row of vision.VISION_FAMILIES     (transformers' own class; None: no video)
    ├── audio_config    an encoder of audio.AUDIO_ENCODERS  (BEATs; None: no audio)
    ├── text_config     one of LANGUAGE_FAMILIES            (transformers' own class)
    └── the connector, the audio projector, and the placeholder ids that join them

`VideoLlama2Config.from_pretrained(folder)` reads our own config.json and the original's (weights/original/).
"""

import difflib
import json
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, PreTrainedConfig

from .audio import audio_encoder_class
from .beats import BeatsConfig
from .errors import ConfigError, nearest
from .hub import HubOptions, find_folder, refuse_unknown
from .names import NamingConnector  # noqa: F401 - adds its connector to those of stc.py
from .paired_audio import PairedAudio  # noqa: F401 - registers itself
from .paired_vision import PairedVision  # noqa: F401 - adds its encoders to transformers' Auto classes
from .sound_names import projector_names
from .stc import connector_settings

logger = logging.getLogger(__name__)

# transformers' language models that fit without changes, by model_type: a trunk of `embed_tokens`, `layers` and `norm`
# under a linear head. To support another, add it here; it must pass tests/test_language_models.py.
LANGUAGE_FAMILIES = (
    "gemma2", "llama", "mistral", "mixtral", "olmo2", "phi3", "qwen2", "qwen3", "smollm3",
)  # fmt: skip
ORIGINAL_PREFIX = "videollama2_"  # of the original's model types

# Keys that transformers wrote into config.json over the years.
LIBRARY_KEYS = frozenset(
    "architectures model_type torch_dtype dtype transformers_version _name_or_path name_or_path use_cache auto_map "
    "_commit_hash "
    "attn_implementation _attn_implementation _attn_implementation_autoset _flash_attn_2_enabled head_dim "
    "rope_theta rope_scaling rope_parameters pretraining_tp attention_bias mlp_bias use_return_dict return_dict "
    "output_attentions output_hidden_states torchscript use_bfloat16 tf_legacy_loss pruned_heads finetuning_task "
    "tie_word_embeddings task_specific_params problem_type cross_attention_hidden_size is_encoder_decoder is_decoder "
    "add_cross_attention tie_encoder_decoder chunk_size_feed_forward bos_token_id eos_token_id pad_token_id "
    "sep_token_id decoder_start_token_id tokenizer_class prefix id2label label2id num_labels".split()
)


_OF_TEXT = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads")


def _of_text(name: str) -> property:
    """A setting of the language model, read and written through the whole model's configuration."""
    return property(
        lambda config: getattr(config.text_config, name),
        lambda config, value: setattr(config.text_config, name, value),
        doc=f"The language model's {name}.",
    )


class VideoLlama2Config(PreTrainedConfig):
    """Configuration of a whole model.

    Attributes:
        connector_type: a name of stc.CONNECTORS, `linear` or `mlpNx_gelu` (spec §1.4).
        vision_feature_layer: index into the vision encoder's hidden states; -2 skips the last block (spec §1.2).
        vision_feature_select: `patch` drops a class token, `cls_patch` keeps it.
        num_frames: number of frames sampled from a video, and that an image counts as.
        audio_projector_type: `linear`, `mlpNx_gelu` (spec §1.6), or a name of sound_names.PROJECTORS.
        audio_pool: (time, frequency) average pooling of audio features before the projector. (1, 1) in every released
            model; nano pools, because each position costs a laptop 8 ms.
        image_token_id, video_token_id, audio_token_id: placeholder ids, one per feature in a prompt. By default the
            three ids after the vocabulary, so that no text can contain them and no embedding row is added.
        system_prompt: put before a conversation that has no system message (spec §5.2).
        protocol: how media are prepared by default (protocols.py).
    """

    model_type = "videollama2"
    sub_configs: ClassVar[dict[str, Any]] = {
        "vision_config": AutoConfig,
        "audio_config": AutoConfig,
        "text_config": AutoConfig,
    }

    # what a Trainer's evaluation does not gather
    keys_to_ignore_at_inference: ClassVar[list[str]] = [
        "past_key_values", "cache", "router_logits", "aux_loss", "image_outputs", "video_outputs", "audio_outputs",
    ]  # fmt: skip
    auto_map: ClassVar[dict[str, str]] = {}  # no code is loaded from a hub; TRL reads this from every configuration

    # Each may be passed as a dict and becomes a config; Any, because transformers is untyped.
    vision_config: Any = None
    audio_config: Any = None
    text_config: Any = None
    connector_type: str = "stc_connector_v35"
    vision_feature_layer: int = -2
    vision_feature_select: str = "patch"
    num_frames: int = 8
    audio_projector_type: str = "mlp2x_gelu"
    audio_pool: tuple[int, int] | list[int] = (1, 1)
    image_token_id: Any = None
    video_token_id: Any = None
    audio_token_id: Any = None
    system_prompt: str | None = None
    protocol: str = "released"
    initializer_range: float = 0.02
    tie_word_embeddings: bool = False

    def __post_init__(self, **kwargs: Any) -> None:
        self.vision_config = _sub_config(self.vision_config, "vision_config")
        self.text_config = _sub_config(self.text_config, "text_config") or AutoConfig.for_model("qwen2")
        if isinstance(self.audio_config, dict):
            kind = self.audio_config.get("model_type", BeatsConfig.model_type)
            self.audio_config = audio_encoder_class(kind).config_class(**self.audio_config)
        if len(self.audio_pool) != 2 or not all(isinstance(n, int) and n >= 1 for n in self.audio_pool):
            raise ConfigError(f"audio_pool is {self.audio_pool!r}; expected two integers, for time and frequency.")
        self.audio_pool = (self.audio_pool[0], self.audio_pool[1])
        vocabulary = self.text_config.vocab_size
        self.image_token_id = vocabulary if self.image_token_id is None else self.image_token_id
        self.video_token_id = vocabulary + 1 if self.video_token_id is None else self.video_token_id
        self.audio_token_id = vocabulary + 2 if self.audio_token_id is None else self.audio_token_id
        super().__post_init__(**kwargs)
        if self.vision_config is not None:
            connector_settings(self.connector_type)  # raises on an unknown name
        if not isinstance(self.num_frames, int) or self.num_frames < 1:
            raise ConfigError(f"num_frames is {self.num_frames!r}; expected an integer of 1 or more.")

    # transformers and PEFT look for these on the whole model's configuration
    vocab_size = _of_text("vocab_size")
    hidden_size = _of_text("hidden_size")
    num_hidden_layers = _of_text("num_hidden_layers")
    num_attention_heads = _of_text("num_attention_heads")

    def get_text_config(self, decoder: bool | None = None, encoder: bool | None = None) -> PreTrainedConfig:
        """The language model's configuration, which generation and caches use."""
        return self.text_config

    @property
    def placeholder_ids(self) -> dict[Any, int]:
        """The placeholder id of each modality."""
        return {"image": self.image_token_id, "video": self.video_token_id, "audio": self.audio_token_id}

    def audio_tokens(self, features: int) -> int:
        """Number of tokens of that many audio features."""
        if self.audio_config is None:
            return 0
        heard = self.audio_config.num_tokens(features, self.audio_pool)
        return int(heard + projector_names(self.audio_projector_type))

    def move_placeholders(self, vocabulary: int) -> None:
        """After a resize, keep placeholder ids that were outside `vocabulary` outside the new one.

        A prompt built by an older processor then fails on the number of placeholders, instead of feeding media to an
        added token.
        """
        ids = self.placeholder_ids
        outside = [modality for modality, token_id in ids.items() if token_id >= vocabulary]
        size = self.text_config.vocab_size
        if any(ids[modality] < size for modality in outside):
            for i, modality in enumerate(outside):
                setattr(self, f"{modality}_token_id", size + i)
            logger.warning(
                "The vocabulary grew to %d, so the placeholder ids moved behind it; recreate the processor "
                "from this configuration before preparing prompts.", size,
            )  # fmt: skip

    @property
    def max_positions(self) -> int:
        """Longest sequence (text and media) that the language model has positions for."""
        return int(self.text_config.max_position_embeddings)

    @classmethod
    def get_config_dict(
        cls, pretrained_model_name_or_path: Any, **kwargs: Any
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Like transformers', with an original's values translated into ours; `ignored_keys` are dropped unread."""
        ignored = kwargs.pop("ignored_keys", ())
        options = HubOptions.take(kwargs)
        place = Path(pretrained_model_name_or_path)
        if not place.is_file():
            place = find_folder(place, options, weights=False)
            if (place / "config.json").is_file():
                read_json(place / "config.json")  # its error names the file and the position
        values, unused = super().get_config_dict(place, **kwargs)
        values = {k: v for k, v in values.items() if k not in ignored}
        return _translated(values, place), unused

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, **kwargs: Any) -> Any:
        """The configuration in a folder, a JSON file or a hub repository. Settings in `kwargs` override its own; those
        of a part are merged into it (`text_config={"vocab_size": 99}`).

        Args:
            kwargs: as in transformers; with `return_unused_kwargs`, returns (config, unused kwargs).

        Raises:
            CheckpointNotFound: no such folder, file or repository.
            ConfigError: an unknown key, or an invalid value.
            UnknownArgument: an unknown argument.
        """
        wants_unused = kwargs.pop("return_unused_kwargs", False)
        config, unused = super().from_pretrained(pretrained_model_name_or_path, return_unused_kwargs=True, **kwargs)
        if wants_unused:
            return config, unused
        unused = set(unused) - {"_from_auto", "_from_pipeline", "trust_remote_code"}
        refuse_unknown(unused, VideoLlama2Config.__dataclass_fields__, "VideoLlama2Config.from_pretrained")
        return config

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """A configuration from a dict in our layout or the original's.

        Raises:
            ConfigError: an unknown key (the closest known one is suggested), or an invalid value.
        """
        folder = kwargs.get("name_or_path") or config_dict.get("_name_or_path") or "."
        config_dict = _translated(config_dict, Path(folder))
        # without a text_config, transformers would build its default, a model with 7 billion parameters
        found = config_dict.get("model_type")
        if found != VideoLlama2Config.model_type or not config_dict.get("text_config"):
            from .weights.original.configuration import LANGUAGE_MODELS

            raise ConfigError(
                f"config.json describes a model of type {found!r}; expected {VideoLlama2Config.model_type!r} with a "
                f"text_config, or an original model type ({', '.join(LANGUAGE_MODELS)})."
            )
        fields = VideoLlama2Config.__dataclass_fields__
        config_dict = _merged(config_dict, {key: kwargs.pop(key) for key in list(kwargs) if key in _own_fields()})
        unknown = set(config_dict) - set(fields) - LIBRARY_KEYS - {"quantization_config"}
        mistyped = {k for k in unknown if k in _OF_TEXT or difflib.get_close_matches(k, _own_fields(), cutoff=0.8)}
        refuse_unknown_keys(mistyped, set(fields), "config.json")
        if unknown:  # from another version of transformers; our own format has none
            logger.warning("config.json has unknown keys, which are ignored: %s", ", ".join(sorted(unknown)))
        # called on the class itself, not on an alias of the original: every model has the same configuration type
        return super(VideoLlama2Config, VideoLlama2Config).from_dict(config_dict, **kwargs)


def _translated(values: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Our configuration for one of the original's; any other passes through."""
    if not str(values.get("model_type", "")).startswith(ORIGINAL_PREFIX):
        return values
    from .weights.original.configuration import LANGUAGE_MODELS, translate_original

    return translate_original(values, folder) if values["model_type"] in LANGUAGE_MODELS else values


def _own_fields() -> list[str]:
    return [
        name for name in VideoLlama2Config.__dataclass_fields__ if name not in PreTrainedConfig.__dataclass_fields__
    ]


def _merged(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """A configuration's values with changes; a part's changes are merged into it, unless its type changes."""
    merged = dict(values)
    for key, change in changes.items():
        new = change.to_dict() if isinstance(change, PreTrainedConfig) else change
        old = values.get(key)
        old = old.to_dict() if isinstance(old, PreTrainedConfig) else old
        merged[key] = new
        if isinstance(new, dict) and isinstance(old, dict) and new.get("model_type") in (None, old.get("model_type")):
            merged[key] = {**old, **new}
    return merged


def _sub_config(value: Any, name: str) -> Any:
    if not isinstance(value, dict):
        return value
    values = dict(value)
    model_type = values.pop("model_type", None)
    if model_type is None:
        raise ConfigError(f"{name} has no model_type; expected one of transformers' names, such as 'qwen2'.")
    try:
        return AutoConfig.for_model(model_type, **values)
    except (ValueError, TypeError, StrictDataclassError) as error:
        reason = "no such model type" if "Unrecognized model" in str(error) else " ".join(str(error).split())
        raise ConfigError(f"{name} ({model_type!r}) is not valid: {reason}") from error


def refuse_unknown_keys(values: Iterable[str], known: set[str] | frozenset[str], where: str) -> None:
    """Raise ConfigError for keys outside `known`, suggesting the closest known key for each."""
    unknown = sorted(set(values) - known)
    if not unknown:
        return
    named = []
    for key in unknown:
        near = nearest(key, known)
        named.append(f"{key!r}" + (f" (did you mean {near!r}?)" if near else ""))
    raise ConfigError(
        f"{where} has {len(unknown)} unknown key(s): {', '.join(named)}; "
        "correct or remove them, or pass ignored_keys=(…) when loading, to ignore them."
    )


def read_json(path: Path) -> dict[str, Any]:
    """The object in a checkpoint's JSON file; raises ConfigError if it is unreadable or not an object."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} is not readable JSON: {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path} contains a {type(values).__name__}; expected a JSON object.")
    return values
