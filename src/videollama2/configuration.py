"""What a VideoLLaMA 2 model is made of, as data.

    VideoLlama2Config
    ├── vision_config   CLIP, SigLIP or DINOv2       (transformers' own class; None: blind)
    ├── audio_config    BeatsConfig                  (None: deaf)
    ├── text_config     Mistral, Mixtral, Qwen2, …   (transformers' own class)
    └── the connector, the audio projector, and the placeholder ids that join them

`VideoLlama2Config.from_pretrained(folder)` reads both our own config.json and the original's, whose model types
(`videollama2_mistral`, `videollama2_qwen2`, …) are registered as aliases that translate themselves (spec §3.1).
"""

import json
from pathlib import Path
from typing import Any, ClassVar

from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, GenerationConfig, PreTrainedConfig

from .errors import ConfigError, nearest

# original model_type -> transformers' language model (spec §3.1)
LANGUAGE_MODELS = {
    "videollama2_mistral": "mistral",
    "videollama2_mixtral": "mixtral",
    "videollama2_qwen2": "qwen2",
    "videollama2_llama": "llama",
    "videollama2_phi3": "phi3",
    "videollama2_gemma2": "gemma2",
}

# The public inference code puts a safety prompt before the user's turn for these, and for no other (spec §5.2).
_FAMILIES_WITH_SYSTEM_PROMPT = ("videollama2_mistral", "videollama2_mixtral")
RELEASED_SYSTEM_PROMPT = (
    "<<SYS>>\nYou are a helpful, respectful and honest assistant. Always answer as helpfully as possible, while being "
    "safe.  Your answers should not include any harmful, unethical, racist, sexist, toxic, dangerous, or illegal "
    "content. Please ensure that your responses are socially unbiased and positive in nature.\nIf a question does not "
    "make any sense, or is not factually coherent, explain why instead of answering something not correct. If you "
    "don't know the answer to a question, please don't share false information.\n<</SYS>>"
)

# The two towers of every released checkpoint (spec §1.2). The weights are in the checkpoint; only the sizes are not.
VISION_TOWERS: dict[str, dict[str, Any]] = {
    "clip-vit-large-patch14-336": {
        "model_type": "clip_vision_model",
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "image_size": 336,
        "patch_size": 14,
        "projection_dim": 768,
        "hidden_act": "quick_gelu",
        "layer_norm_eps": 1e-5,
    },
    "siglip-so400m-patch14-384": {
        "model_type": "siglip_vision_model",
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "num_hidden_layers": 27,
        "num_attention_heads": 16,
        "image_size": 384,
        "patch_size": 14,
        "hidden_act": "gelu_pytorch_tanh",
        "layer_norm_eps": 1e-6,
    },
}

# Keys of an original config.json that are ours to interpret …
_MULTIMODAL_KEYS = frozenset(
    "mm_vision_tower mm_vision_select_layer mm_vision_select_feature mm_projector_type mm_hidden_size num_frames "
    "mm_audio_tower mm_projector_a_type mm_hidden_size_a hidden_size_a tune_mm_mlp_adapter".split()
)
# … and its bookkeeping, which no computation reads.
_BOOKKEEPING_KEYS = frozenset(
    "use_mm_proj image_aspect_ratio freeze_mm_mlp_adapter mm_projector_lr tune_mm_mlp_adapter_a tune_audio_tower "
    "tune_adapter_llm tokenizer_padding_side tokenizer_model_max_length max_sequence_length quantization_config "
    "freeze_backbone image_crop_resolution image_grid_pinpoints image_split_resolution mm_use_im_start_end "
    "mm_use_im_patch_token mm_tunable_parts vocab_size_a".split()
)
# Keys that transformers wrote into config.json over the years.
_LIBRARY_KEYS = frozenset(
    "architectures model_type torch_dtype dtype transformers_version _name_or_path name_or_path use_cache auto_map "
    "_commit_hash "
    "attn_implementation _attn_implementation _attn_implementation_autoset _flash_attn_2_enabled head_dim "
    "rope_theta rope_scaling rope_parameters pretraining_tp attention_bias mlp_bias use_return_dict return_dict "
    "output_attentions output_hidden_states torchscript use_bfloat16 tf_legacy_loss pruned_heads finetuning_task "
    "tie_word_embeddings task_specific_params problem_type cross_attention_hidden_size is_encoder_decoder is_decoder "
    "add_cross_attention tie_encoder_decoder chunk_size_feed_forward bos_token_id eos_token_id pad_token_id "
    "sep_token_id decoder_start_token_id tokenizer_class prefix id2label label2id num_labels".split()
)


class BeatsConfig(PreTrainedConfig):
    """Sizes of a BEATs audio encoder (spec §1.5); the defaults are the released `BEATs_iter3+ (AS2M, cpt2)`.

    Names follow the original's so that its `cfg` dict and `beats_config.json` load as they are.
    """

    model_type = "beats"

    input_patch_size: int = 16
    embed_dim: int = 512
    conv_bias: bool = False
    encoder_layers: int = 12
    encoder_embed_dim: int = 768
    encoder_ffn_embed_dim: int = 3072
    encoder_attention_heads: int = 12
    activation_fn: str = "gelu"
    layer_wise_gradient_decay_ratio: float = 0.6
    layer_norm_first: bool = False
    deep_norm: bool = True
    dropout: float = 0.0
    attention_dropout: float = 0.0
    activation_dropout: float = 0.0
    encoder_layerdrop: float = 0.05
    dropout_input: float = 0.0
    conv_pos: int = 128
    conv_pos_groups: int = 16
    relative_position_embedding: bool = True
    num_buckets: int = 320
    max_distance: int = 800
    gru_rel_pos: bool = True
    finetuned_model: bool = True
    predictor_dropout: float = 0.0
    predictor_class: int = 527

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        unsupported = {
            "activation_fn": (self.activation_fn, "gelu"),
            "layer_norm_first": (self.layer_norm_first, False),
            "deep_norm": (self.deep_norm, True),
            "relative_position_embedding": (self.relative_position_embedding, True),
            "gru_rel_pos": (self.gru_rel_pos, True),
        }
        for name, (found, expected) in unsupported.items():
            if found != expected:
                raise ConfigError(f"BEATs with {name}={found!r} is not supported; released ones have {expected!r}")
        if self.encoder_embed_dim % self.encoder_attention_heads:
            raise ConfigError(
                f"BEATs width {self.encoder_embed_dim} does not divide into {self.encoder_attention_heads} heads"
            )


class VideoLlama2Config(PreTrainedConfig):
    """Configuration of a whole model.

    Attributes:
        connector_type: `stc_connector`, `stc_connector_v35`, `stp_connector`, `spatial_conv`, `spatial_pool`,
            `linear` or `mlpNx_gelu` (spec §1.4).
        vision_feature_layer: index into the vision encoder's hidden states; -2 leaves out the last block (spec §1.2).
        vision_feature_select: `patch` drops a class token, `cls_patch` keeps it.
        num_frames: frames that a video is sampled to, and that an image stands for.
        audio_projector_type: `linear` or `mlpNx_gelu` (spec §1.6).
        audio_pool: (time, frequency) average pooling of BEATs' patches before the projector. (1, 1) in every released
            model; nano pools, because each position costs a laptop 8 ms.
        image_token_id, video_token_id, audio_token_id: placeholder ids, one per feature in a prompt. By default the
            three ids after the vocabulary, so that no text can contain them and no embedding row is added.
        system_prompt: put before the conversation when the user gives none (spec §5.2).
        protocol: how media are prepared where the caller names no other (protocols.py).
    """

    model_type = "videollama2"
    sub_configs: ClassVar[dict[str, Any]] = {
        "vision_config": AutoConfig,
        "audio_config": BeatsConfig,
        "text_config": AutoConfig,
    }

    # Each is given as a dict or a config and is a config from then on; Any, because transformers is untyped.
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
            self.audio_config = BeatsConfig(**self.audio_config)
        if len(self.audio_pool) != 2 or not all(isinstance(n, int) and n >= 1 for n in self.audio_pool):
            raise ConfigError(f"audio_pool is {self.audio_pool!r}; expected two whole numbers, time and frequency")
        self.audio_pool = (self.audio_pool[0], self.audio_pool[1])
        vocabulary = self.text_config.vocab_size
        self.image_token_id = vocabulary if self.image_token_id is None else self.image_token_id
        self.video_token_id = vocabulary + 1 if self.video_token_id is None else self.video_token_id
        self.audio_token_id = vocabulary + 2 if self.audio_token_id is None else self.audio_token_id
        super().__post_init__(**kwargs)
        if not isinstance(self.num_frames, int) or self.num_frames < 1:
            raise ConfigError(f"num_frames is {self.num_frames!r}; expected a whole number, at least 1")

    def get_text_config(self, decoder: bool | None = None, encoder: bool | None = None) -> PreTrainedConfig:
        """The language model's configuration, which is what generation and caches ask for."""
        return self.text_config

    @property
    def placeholder_ids(self) -> dict[Any, int]:
        """The placeholder id of each modality."""
        return {"image": self.image_token_id, "video": self.video_token_id, "audio": self.audio_token_id}

    @property
    def max_positions(self) -> int:
        """Longest sequence (text and media) that the language model has positions for."""
        return int(self.text_config.max_position_embeddings)

    @classmethod
    def get_config_dict(
        cls, pretrained_model_name_or_path: Any, **kwargs: Any
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """As transformers', and an original's comes back as ours; `ignored_keys` are notes that nothing reads."""
        ignored = kwargs.pop("ignored_keys", ())
        local = Path(pretrained_model_name_or_path) / "config.json"
        if local.is_file():
            read_json(local)  # for an error that says where the mistake is
        values, unused = super().get_config_dict(pretrained_model_name_or_path, **kwargs)
        values = {k: v for k, v in values.items() if k not in ignored}
        if values.get("model_type") in LANGUAGE_MODELS:
            values = translate_original(values, Path(pretrained_model_name_or_path))
        return values, unused

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """A configuration from a dict in our form or the original's.

        Raises:
            ConfigError: an unknown key (the nearest known one is named), or an impossible value.
        """
        if config_dict.get("model_type") in LANGUAGE_MODELS:
            folder = kwargs.get("name_or_path") or config_dict.get("_name_or_path") or "."
            config_dict = translate_original(config_dict, Path(folder))
        # without this a file that describes no language model would mean transformers' default one, 7 billion large
        found = config_dict.get("model_type")
        if found != VideoLlama2Config.model_type or not config_dict.get("text_config"):
            raise ConfigError(
                f"config.json describes a model of type {found!r}; expected {VideoLlama2Config.model_type!r} with a "
                f"text_config, or an original's ({', '.join(LANGUAGE_MODELS)})"
            )
        known = set(VideoLlama2Config.__dataclass_fields__) | _LIBRARY_KEYS | set(cls.sub_configs)
        _refuse_unknown(config_dict, known, "config.json")
        # an alias hands over to the class itself, so that every model carries one configuration type
        return super(VideoLlama2Config, VideoLlama2Config).from_dict(config_dict, **kwargs)


def _sub_config(value: Any, name: str) -> Any:
    if not isinstance(value, dict):
        return value
    values = dict(value)
    model_type = values.pop("model_type", None)
    if model_type is None:
        raise ConfigError(f"{name} has no model_type; expected one of transformers' names, such as 'qwen2'")
    try:
        return AutoConfig.for_model(model_type, **values)
    except (ValueError, TypeError, StrictDataclassError) as error:
        reason = "no such model type" if "Unrecognized model" in str(error) else " ".join(str(error).split())
        raise ConfigError(f"{name} ({model_type!r}) can't be understood: {reason}") from error


def _refuse_unknown(values: dict[str, Any], known: set[str] | frozenset[str], where: str) -> None:
    unknown = sorted(set(values) - known)
    if not unknown:
        return
    named = []
    for key in unknown:
        near = nearest(key, known)
        named.append(f"{key!r}" + (f" (did you mean {near!r}?)" if near else ""))
    raise ConfigError(
        f"{where} has {len(unknown)} unknown key(s): {', '.join(named)}. Nothing was guessed from them; "
        "correct or remove them, or pass ignored_keys=(…) when loading if they are only notes"
    )


def translate_original(values: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Our configuration, as a dict, for an original config.json (spec §3.1).

    Args:
        values: the parsed original file.
        folder: where it lies; a vision tower's or BEATs' own config may lie beside it.

    Raises:
        ConfigError: unknown keys, an unknown vision tower, or sizes that contradict each other.
    """
    model_type = values["model_type"]
    family = LANGUAGE_MODELS[model_type]
    text_class = type(AutoConfig.for_model(family))
    text_keys = set(text_class.__dataclass_fields__) | _LIBRARY_KEYS | set(GenerationConfig().to_dict())
    known = text_keys | _MULTIMODAL_KEYS | _BOOKKEEPING_KEYS
    _refuse_unknown(values, known, "the original config.json")

    skip = _MULTIMODAL_KEYS | _BOOKKEEPING_KEYS
    skip |= {
        "architectures",
        "model_type",
        "auto_map",
        "transformers_version",
        "_name_or_path",
        "name_or_path",
        "_commit_hash",
    }
    skip |= set(GenerationConfig().to_dict()) - set(text_class.__dataclass_fields__)
    text = {k: v for k, v in values.items() if k not in skip or k in ("bos_token_id", "eos_token_id", "pad_token_id")}
    dtype = text.pop("torch_dtype", None) or text.pop("dtype", None)
    ours: dict[str, Any] = {
        "model_type": VideoLlama2Config.model_type,
        "architectures": ["VideoLlama2ForConditionalGeneration"],
        "text_config": {"model_type": family, **text},
        "tie_word_embeddings": bool(values.get("tie_word_embeddings", text_class().tie_word_embeddings)),
        "num_frames": values.get("num_frames") or 8,
        "connector_type": values.get("mm_projector_type", "linear"),
        "system_prompt": RELEASED_SYSTEM_PROMPT if model_type in _FAMILIES_WITH_SYSTEM_PROMPT else None,
    }
    if dtype is not None:
        ours["dtype"] = dtype
    if values.get("mm_vision_tower") is not None:
        ours |= _vision_part(values, folder)
    if values.get("mm_audio_tower") is not None:
        ours |= _audio_part(values, folder)
    return ours


def _vision_part(values: dict[str, Any], folder: Path) -> dict[str, Any]:
    vision = vision_tower_config(values["mm_vision_tower"], folder)
    found, stated = vision.get("hidden_size"), values.get("mm_hidden_size")
    if stated is not None and found != stated:
        raise ConfigError(
            f"mm_hidden_size is {stated}, but the vision tower {values['mm_vision_tower']!r} is {found} wide; "
            "one of the two files belongs to another model"
        )
    if values.get("mm_vision_select_layer") is None:
        raise ConfigError("mm_vision_tower is set but mm_vision_select_layer is not; released models have -2")
    return {
        "vision_config": vision,
        "vision_feature_layer": values["mm_vision_select_layer"],
        "vision_feature_select": values.get("mm_vision_select_feature", "patch"),
    }


def _audio_part(values: dict[str, Any], folder: Path) -> dict[str, Any]:
    beside = folder / "beats_config.json"
    audio = read_json(beside) if beside.is_file() else {}
    known = set(BeatsConfig.__dataclass_fields__)
    audio = BeatsConfig(**{k: v for k, v in audio.items() if k in known}).to_dict()
    width = values.get("mm_hidden_size_a")
    if width is not None and width != audio["encoder_embed_dim"]:
        raise ConfigError(
            f"mm_hidden_size_a is {width}, but BEATs is {audio['encoder_embed_dim']} wide; a BEATs of another size "
            f"needs a beats_config.json in {folder}"
        )
    out = values.get("hidden_size_a")
    if out is not None and out != values["hidden_size"]:
        raise ConfigError(f"hidden_size_a is {out}, but the language model is {values['hidden_size']} wide")
    return {"audio_config": audio, "audio_projector_type": values.get("mm_projector_a_type", "linear")}


def vision_tower_config(name: str, folder: Path) -> dict[str, Any]:
    """The configuration of the vision tower `name`, as a dict with `model_type`.

    Looked for in the checkpoint's own folder, at `name` as a local folder, among the towers that are built in, and
    in the local hub cache, in that order; nothing is downloaded.

    Raises:
        ConfigError: it is in none of these places, or is no CLIP, SigLIP or DINOv2 vision model.
    """
    base = name.rstrip("/").rsplit("/", 1)[-1]
    for place in (folder / name, folder / base, Path(name)):
        if (place / "config.json").is_file():
            return _vision_only(read_json(place / "config.json"), str(place))
    if base in VISION_TOWERS:
        return dict(VISION_TOWERS[base])
    try:
        return _vision_only(AutoConfig.from_pretrained(name, local_files_only=True).to_dict(), name)
    except OSError:
        raise ConfigError(
            f"the vision tower {name!r} is not in {folder}, not a local folder, not built in "
            f"({', '.join(VISION_TOWERS)}) and not in the hub cache; put its config.json into {folder / base}/"
        ) from None


def _vision_only(values: dict[str, Any], where: str) -> dict[str, Any]:
    """The vision half of a two-tower config (CLIP, SigLIP), or the config itself."""
    nested = {"clip": "clip_vision_model", "siglip": "siglip_vision_model"}
    if values.get("model_type") in nested:
        values = {**values["vision_config"], "model_type": nested[values["model_type"]]}
    if values.get("model_type") not in ("clip_vision_model", "siglip_vision_model", "dinov2"):
        raise ConfigError(f"{where} is a {values.get('model_type')!r}; expected a CLIP, SigLIP or DINOv2 vision model")
    dropped = ("architectures", "torch_dtype", "dtype", "transformers_version", "_name_or_path")
    return {k: v for k, v in values.items() if k not in dropped}


def read_json(path: Path) -> dict[str, Any]:
    """The object in a checkpoint's JSON file; raises ConfigError where it can't be read or holds no object."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} can't be read as JSON: {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds a {type(values).__name__}; expected a JSON object")
    return values


# AutoConfig looks a class up by the file's model_type, so each original type needs a class that carries its name.
ORIGINAL_CONFIGS = tuple(
    type(name.replace("_", " ").title().replace(" ", "") + "Config", (VideoLlama2Config,), {"model_type": name})
    for name in LANGUAGE_MODELS
)
