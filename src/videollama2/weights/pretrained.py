"""`from_pretrained` of both model classes: transformers' arguments and return values, our strictness.

    a complete folder, or a hub id     strict.load_strictly
    a training stage                   stages.load: put on top of its base
    an adapter of PEFT's               its base, with the adapter attached, as transformers does
    None and state_dict=               strict.load_state_dict

An argument is one of the hub's (hub.HubOptions), one of transformers', a setting of config.json, or an error.
"""

import inspect
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig, PreTrainedModel
from transformers.utils import is_peft_available

from ..configuration import VideoLlama2Config
from ..errors import CheckpointNotFound, UsageError
from ..hub import HubOptions, find_folder, refuse_unknown
from ..modeling import ZERO_3
from . import stages
from .files import read_headers
from .locate import locate
from .lora import OTHERS
from .lora import WEIGHTS as ADAPTER
from .original.names import is_original
from .strict import Differences, load_state_dict, load_strictly, quiet

# Read by transformers' from_pretrained out of its **kwargs.
_ARGUMENTS = frozenset(
    "state_dict tqdm_class output_loading_info dtype torch_dtype device_map max_memory offload_folder offload_buffers "
    "quantization_config adapter_kwargs adapter_name generation_config distributed_config device_mesh tp_plan tp_size "
    "trust_remote_code allow_all_kernels use_kernels kernel_config key_mapping attn_implementation "
    "experts_implementation _from_pipeline _from_auto _commit_hash".split()
)
# Arguments of former versions, which transformers drops, too.
_DROPPED = ("mirror", "_fast_init", "low_cpu_mem_usage", "offload_state_dict", "code_revision")
_OURS = ("ignored_keys",)


def from_pretrained(cls: type[PreTrainedModel], name: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A model, or (model, report) with `output_loading_info`; see VideoLlama2PreTrainedModel.from_pretrained."""
    refuse_zero3()
    kwargs = {key: value for key, value in kwargs.items() if key not in _DROPPED}
    _refuse_other_formats(kwargs)
    options = HubOptions.take(kwargs)
    ignored_keys = kwargs.pop("ignored_keys", ())
    config, *_ = *args, kwargs.pop("config", None)
    state_dict = kwargs.pop("state_dict", None)
    if name is None or state_dict is not None:
        if name is not None or state_dict is None or config is None:
            raise UsageError("expected a folder or hub id, or None with both config= and state_dict=.")
        config = _config(config, None, options, (), kwargs)
        return load_state_dict(cls, config, state_dict, **kwargs)

    adapter = _adapter_given_by_auto(kwargs)
    folder = find_folder(name, options)
    if stages.kind(folder, options.variant) != "complete":
        if not _is_plain_adapter(folder):
            return _from_stage(cls, folder, config, options, ignored_keys, kwargs)
        adapter, base = adapter or folder, stages.named_base(folder)
        if base is None:
            raise CheckpointNotFound(f"{folder} names no base model; load the base, then the adapter.")
        folder, name = locate(base, options=options.for_another())
        if not isinstance(config, PreTrainedConfig) or (Path(adapter) / "config.json").is_file():
            config = None  # that of the adapter's folder: the base has its own
    config = _config(config, folder, options, ignored_keys, kwargs)
    adapter_name, adapter_kwargs = kwargs.pop("adapter_name", "default"), kwargs.pop("adapter_kwargs", None) or {}
    found = load_strictly(cls, folder, config, variant=options.variant, **kwargs)
    model = found[0] if isinstance(found, tuple) else found
    model.name_or_path = model.config.name_or_path = str(name)
    if adapter is not None:
        _attach(model, adapter, adapter_name, adapter_kwargs)
    return found


def _config(
    config: Any, folder: Path | None, options: HubOptions, ignored_keys: tuple[str, ...], kwargs: dict[str, Any]
) -> VideoLlama2Config:
    """The configuration: the given one, or the folder's with the settings among `kwargs`, which are removed.

    Raises:
        UnknownArgument: `kwargs` has an unknown argument.
    """
    known = {*inspect.signature(PreTrainedModel.from_pretrained).parameters, *_ARGUMENTS}
    settings = {key: kwargs.pop(key) for key in set(kwargs) - known}
    if not isinstance(config, PreTrainedConfig):
        source = folder if config is None else find_folder(config, options, weights=False)
        assert source is not None
        if not (source / "config.json").is_file():
            raise CheckpointNotFound(f"{source}: no config.json; expected a checkpoint folder.")
        config, settings = VideoLlama2Config.from_pretrained(
            source, return_unused_kwargs=True, ignored_keys=ignored_keys, **settings
        )
    refuse_unknown(
        settings, {*(k for k in known if k[0] != "_"), *VideoLlama2Config.__dataclass_fields__}, "from_pretrained"
    )
    found: VideoLlama2Config = config
    return found


def _from_stage(
    cls: type[PreTrainedModel],
    folder: Path,
    config: Any,
    options: HubOptions,
    ignored_keys: tuple[str, ...],
    kwargs: dict[str, Any],
) -> Any:
    collected = stages.collect(folder, ignored_keys=ignored_keys, options=options)
    config = _config(config or collected.config, folder, options, ignored_keys, kwargs)
    report = kwargs.pop("output_loading_info", False)
    if kwargs.pop("key_mapping", None) or kwargs.pop("ignore_mismatched_sizes", False):
        raise UsageError(
            f"{folder} is a training stage: key_mapping and ignore_mismatched_sizes need a complete model."
        )
    dtype = kwargs.pop("dtype", None) or kwargs.pop("torch_dtype", None) or "auto"
    whole: Any = stages.build(stages.Collected(config, collected.tensors, collected.folders), dtype, kwargs)
    model = whole if isinstance(whole, cls) else whole.base_model
    names: dict[str, Any] = {key: set() for key in ("missing_keys", "unexpected_keys", "mismatched_keys")}
    return (model, {**names, "error_msgs": []}) if report else model


def _adapter_given_by_auto(kwargs: dict[str, Any]) -> Path | None:
    """The adapter that an Auto class found, which then passes the base model's name."""
    given = kwargs.get("adapter_kwargs") or {}
    kwargs["adapter_kwargs"] = {key: value for key, value in given.items() if key != "_adapter_model_path"}
    path = given.get("_adapter_model_path")
    return None if path is None else Path(path)


def _is_plain_adapter(folder: Path) -> bool:
    """Whether PEFT wrote it for a model of ours; others are merged into their base."""
    if stages.kind(folder) != "lora" or (folder / OTHERS).is_file() or not (folder / ADAPTER).is_file():
        return False
    names = [name.removeprefix("base_model.model.") for name in read_headers([folder / ADAPTER])]
    return is_peft_available() and not is_original(names)


def _attach(model: Any, adapter: Path, name: str, kwargs: dict[str, Any]) -> None:
    kwargs = {key: value for key, value in kwargs.items() if key != "revision"}
    with quiet():
        report = model.load_adapter(str(adapter), adapter_name=name, adapter_kwargs=kwargs)
    if report is not None:  # some versions of transformers return none
        Differences(sorted(report.missing_keys), sorted(report.unexpected_keys), []).refuse(adapter)


def _refuse_other_formats(kwargs: dict[str, Any]) -> None:
    if kwargs.pop("use_safetensors", None) is False:
        raise UsageError("pickles are never read at run time; run `videollama2 convert` once, and load its result.")
    for name in ("gguf_file", "from_tf", "from_flax"):
        if kwargs.pop(name, None):
            raise UsageError(f"{name} is not supported; expected safetensors.")


def refuse_zero3() -> None:
    """Raise UsageError while a DeepSpeed configuration with ZeRO stage 3 is active."""
    from transformers.integrations import is_deepspeed_zero3_enabled

    if is_deepspeed_zero3_enabled():
        raise UsageError(ZERO_3)
