"""A run's configuration: the phase (phases.py) and the settings of its execution, merged from three sources.

    PHASES[name]  ◄── a recipe's table  ◄── overrides of the command line      ──► settings.json

All keys are flat and typed, and documented at their fields. An unknown key is an error that suggests the nearest one.
"""

import dataclasses
import json
import math
import tomllib
import types
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from ..errors import UsageError, did_you_mean
from ..phases import PHASES, Phase, within
from ..protocols import protocol

Unreadable = Literal["error", "skip"]
Save = Literal["whole", "parts"]
Finish = Literal["best", "last"]
TRACKERS = ("tensorboard", "wandb", "trackio")
LARGEST = 2**63  # of integers, as in torch
NOTES = ("model", "starts_from")  # keys of a recipe that only inform


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a phase is executed; apart from adapters, quantisation and the seed, none of it changes what is learned."""

    micro_batch: Annotated[int, "samples per forward pass and process; the rest of the batch is accumulated"] = 1
    gradient_checkpointing: Annotated[bool, "recompute the language model's activations to save memory"] = False
    lora_rank: Annotated[int, "rank of LoRA adapters; 0: train the weights themselves"] = 0
    lora_alpha: Annotated[float | None, "LoRA alpha, the scale of the adapters; none: 2 × rank"] = None
    lora_dropout: Annotated[float, "dropout before each adapter"] = 0.0
    lora_parts: Annotated[tuple[str, ...], "parts with adapters: language_model, audio_encoder"] = ("language_model",)
    quantise: Annotated[int | None, "quantise the frozen language model under adapters to 4 (QLoRA) or 8 bits"] = None
    seed: Annotated[int, "seed of initialisation, data order and dropout"] = 0
    workers: Annotated[int, "worker processes that decode media, per training process"] = 0
    on_unreadable: Annotated[Unreadable, "when a sample can't be read: stop with an error, or skip it"] = "error"
    cache: Annotated[Path | None, "folder to cache the features of frozen encoders in"] = None
    cache_gb: Annotated[float, "maximum size of the cache in GB"] = 50.0
    save_every: Annotated[int, "steps between checkpoints; 0: only at the end"] = 500
    keep: Annotated[int, "number of newest checkpoints to keep, besides the best"] = 2
    evaluate_every: Annotated[int, "steps between evaluations, given evaluation data"] = 100
    patience: Annotated[int | None, "stop after this many evaluations without improvement"] = None
    save: Annotated[Save, "save the whole model, or only the trained parts (loading needs the base)"] = "whole"
    finish: Annotated[Finish, "finish with the best checkpoint (given evaluation data) or the last"] = "best"
    trackers: Annotated[
        tuple[str, ...] | None, "besides metrics.jsonl: tensorboard, wandb, trackio; none: tensorboard if installed"
    ] = None
    deepspeed: Annotated[Path | None, "a DeepSpeed configuration (JSON), to use ZeRO instead of FSDP"] = None

    def __post_init__(self) -> None:
        within(self, 1, math.inf, "micro_batch", "keep", "patience")
        within(self, 0, math.inf, "seed", "save_every", "evaluate_every")
        within(self, 0, 2**16, "lora_rank")
        within(self, 0, 1024, "workers")
        within(self, 0, 1e9, "cache_gb")
        if self.lora_alpha is not None and not self.lora_alpha > 0:
            raise UsageError(f"lora_alpha is {self.lora_alpha:g}; expected more than 0, or none for 2 × rank.")
        if not 0 <= self.lora_dropout < 1:
            raise UsageError(f"lora_dropout is {self.lora_dropout:g}; expected 0 ≤ lora_dropout < 1.")
        if self.quantise is not None and not self.lora_rank:
            raise UsageError("a quantised language model can only learn through adapters; set lora_rank (e.g. 64).")
        if self.quantise not in (None, 4, 8):
            raise UsageError(f"quantise is {self.quantise}; expected 4 or 8 bits, or none.")
        if unknown := set(self.trackers or ()) - set(TRACKERS):
            raise UsageError(f"unknown trackers {', '.join(sorted(unknown))}; expected {', '.join(TRACKERS)}.")
        other = set(self.lora_parts) - {"language_model", "audio_encoder"}
        if other or not self.lora_parts:
            raise UsageError(
                f"lora_parts is {', '.join(self.lora_parts) or 'empty'}; "
                "expected language_model, audio_encoder or both."
            )

    @property
    def alpha(self) -> float:
        """Scale of the adapters."""
        return 2.0 * self.lora_rank if self.lora_alpha is None else self.lora_alpha


def fields() -> dict[str, tuple[Any, str]]:
    """Key → (type, description) of every setting; the phase's name is not one."""
    out = {}
    for owner in (Phase, Settings):
        for name, annotated in get_type_hints(owner, include_extras=True).items():
            if name not in ("name", *NOTES):
                out[name] = get_args(annotated)
    return out


def resolve(
    phase: str, recipe: Mapping[str, Any] | None = None, overrides: Mapping[str, Any] | None = None
) -> tuple[Phase, Settings]:
    """A phase's published numbers, updated from a recipe, then from overrides.

    Raises:
        UsageError: an unknown phase or key (the nearest is suggested), or an invalid value.
    """
    if phase not in PHASES:
        raise UsageError(f"unknown phase {phase!r}{did_you_mean(phase, PHASES)}; expected one of {', '.join(PHASES)}.")
    values: dict[str, Any] = {}
    known = fields()
    for source in (recipe or {}, overrides or {}):
        for key, value in source.items():
            if key in NOTES:
                continue
            if key not in known:
                raise UsageError(f"unknown setting {key!r}{did_you_mean(key, known)}.")
            values[key] = coerce(key, value, known[key][0])
    own = {f.name for f in dataclasses.fields(Phase)}
    changed = PHASES[phase].but(**{k: v for k, v in values.items() if k in own})
    if changed.protocol is not None:
        protocol(changed.protocol)  # raises if unknown
    return changed, Settings(**{k: v for k, v in values.items() if k not in own})


def read_recipe(path: Path, phase: str, setting: str | None) -> dict[str, Any]:
    """The table of a phase in a recipe file: `[SETTING.PHASE]`, or `[PHASE]` in a file without settings.

    Phases that the file lacks are looked for in the file that its key `include` names, if it has one.

    Raises:
        UsageError: the file is missing, not TOML, or lacks the table.
    """
    tables = recipe_tables(path)
    where = {name: table for name, table in tables.items() if isinstance(table, dict)}
    if setting is not None:
        if setting not in where:
            raise UsageError(f"{path} has no setting {setting!r}; found {', '.join(where) or 'no table'}.")
        where = where[setting]
    if phase in where and isinstance(where[phase], dict):
        return dict(where[phase])
    if "include" in tables:
        return read_recipe(path.parent / str(tables["include"]), phase, setting)
    inside = [name for name, table in where.items() if isinstance(table, dict) and phase in table]
    hint = f"; use --setting {' or '.join(inside)}" if inside else ""
    raise UsageError(f"{path} has no table for {phase!r}{hint}; found {', '.join(where) or 'no table'}.")


def recipe_tables(path: Path) -> dict[str, Any]:
    """A recipe file as it is.

    Raises:
        UsageError: the file is missing or not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path} is not a readable recipe ({error}); see recipes/README.md.") from None


def coerce(key: str, value: Any, kind: Any) -> Any:
    """Convert a value of a recipe or of the command line to its key's type.

    Raises:
        UsageError: it can't be converted.
    """
    try:
        return _coerce(value, kind)
    except (TypeError, ValueError, OverflowError):
        raise UsageError(f"{key} is {value!r:.100}; expected {describe(kind)}.") from None


def describe(kind: Any) -> str:
    """A type in words, for errors and help."""
    origin, inside = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return " or ".join("none" if k is type(None) else describe(k) for k in inside)
    if origin is Literal:
        return ", ".join(str(v) for v in inside)
    if origin is dict:
        return "name=number,…"
    if origin in (tuple, frozenset):
        return "name,…"
    names = {int: "an integer", float: "a number", bool: "true or false", str: "a string", Path: "a path"}
    return names[kind]


def _coerce(value: Any, kind: Any) -> Any:
    origin, inside = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        if value is None or (isinstance(value, str) and value.lower() == "none"):
            return None
        return _coerce(value, next(k for k in inside if k is not type(None)))
    if origin is Literal:
        if value not in inside:
            raise ValueError
        return value
    if origin is dict:
        if not isinstance(value, str | Mapping):
            raise TypeError
        items = value.items() if isinstance(value, Mapping) else [v.split("=", 1) for v in _split(value)]
        numbers = {str(k).strip(): _coerce(v, float) for k, v in items}
        if len(numbers) < len(items):
            raise ValueError  # a name is given twice
        return numbers
    if origin in (tuple, frozenset):
        return origin(str(v).strip() for v in (_split(value) if isinstance(value, str) else value))
    if kind is bool:
        if isinstance(value, str):
            value = {"true": True, "false": False}.get(value.lower())
        if not isinstance(value, bool):
            raise ValueError
        return value
    if isinstance(value, bool) or (kind is int and isinstance(value, float) and value != int(value)):
        raise ValueError
    if kind is float and not math.isfinite(float(value)):
        raise ValueError
    if kind is Path and value == "":
        raise ValueError
    made = kind(value)
    if kind is int and abs(made) >= LARGEST:
        raise ValueError
    return made


def _split(text: str) -> list[str]:
    return [piece for piece in text.split(",") if piece.strip() and text.strip().lower() != "none"]


def to_json(phase: Phase, settings: Settings, **run: Any) -> str:
    """The resolved configuration, in the format of settings.json."""
    values = {"phase": dataclasses.asdict(phase), "settings": dataclasses.asdict(settings), "run": run}
    return json.dumps(values, indent=2, default=lambda v: sorted(v) if isinstance(v, frozenset) else str(v)) + "\n"


def read_saved(folder: Path) -> dict[str, Any]:
    """settings.json of a run, validated.

    Raises:
        UsageError: the folder holds no run, or the file was damaged.
    """
    path = folder / "settings.json"
    if not path.is_file():
        raise UsageError(f"{folder} is not a training run (no settings.json); expected the --output of a run.")
    from ..configuration import read_json

    values = read_json(path)
    wrong = values.keys() ^ {"phase", "settings", "run"} | {k for k, v in values.items() if not isinstance(v, dict)}
    if wrong or not isinstance(values["phase"].get("name"), str):
        raise UsageError(
            f"{path} was changed since the run wrote it (see {', '.join(sorted(wrong)) or 'the name of the phase'}); "
            "restore it, or start a new run."
        )
    return values
