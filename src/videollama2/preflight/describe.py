"""A model as far as it can be known without its weights: from files' headers, or from the built-in descriptions."""

from dataclasses import dataclass, field
from pathlib import Path

from ..configuration import VideoLlama2Config
from ..errors import CheckpointNotFound, ConfigError, WeightsError
from ..weights import adapters, catalog


@dataclass
class Subject:
    """A model as far as it is known: `collected` is None where there are no files."""

    name: str
    source: str
    config: VideoLlama2Config
    folder: Path | None = None
    collected: adapters.Collected | None = None
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def describe(model: str | Path, base: str | Path | None = None) -> Subject:
    """Configuration and files of a model; nothing is fetched.

    Raises:
        CheckpointNotFound: unknown. ConfigError: its configuration can't be used.
    """
    folder = Path(model)
    if folder.is_dir():
        return _from_folder(folder.resolve().name, folder, base)
    if str(model) == "nano":
        return _nano()
    release = catalog.find(str(model))
    cached = _cached(release.hub_id)
    if cached is not None and adapters.kind(cached) == "complete":
        return _from_folder(release.hub_id, cached, base)
    subject = Subject(release.hub_id, "built-in description; no file was read", release.config())
    if not release.chat:
        subject.notes.append(
            f"its repository holds the connector only; the rest comes from {release.language.source} and "
            f"{release.vision.source}"
        )
    return subject


def _from_folder(name: str, folder: Path, base: str | Path | None) -> Subject:
    found = adapters.kind(folder)
    source = {"complete": "folder", "pretrain": "folder of a pre-training stage", "lora": "LoRA folder"}[found]
    problems: list[str] = []
    collected = None
    try:
        collected = adapters.collect(folder, base)
        config = collected.config
    except WeightsError as error:
        problems.append(str(error))
        config = adapters.read_config(folder) if (folder / "config.json").is_file() else None
    if config is None:
        reason = "; ".join(problems) or "it describes another model"
        raise ConfigError(f"{folder} has no usable config.json of a VideoLLaMA 2: {reason}")
    return Subject(name, source, config, folder, collected, problems=problems)


def _nano() -> Subject:
    from ..weights.nano import SHIPPED, _fingerprint, cache_root

    if not (SHIPPED / "config.json").is_file():
        raise CheckpointNotFound(f"{SHIPPED} has no config.json; the package was installed without nano, reinstall it")
    built = cache_root() / f"nano-{_fingerprint(SHIPPED, None)}"
    if (built / "config.json").is_file():
        return _from_folder("nano", built, None)
    config = adapters.read_config(SHIPPED)
    return Subject("nano", "what ships with the package; the base language model is fetched at first use", config)


def _cached(hub_id: str) -> Path | None:
    """The folder of a hub id in the local cache, if its configuration is there."""
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(hub_id, "config.json")
    return Path(path).parent if isinstance(path, str) else None
