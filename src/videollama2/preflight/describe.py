"""A model without its weights: from its files' headers, or from the built-in descriptions."""

from dataclasses import dataclass, field
from pathlib import Path

from ..configuration import VideoLlama2Config
from ..errors import CheckpointNotFound, ConfigError, WeightsError
from ..hub import HubOptions, find_folder
from ..weights import catalog, stages
from ..weights.locate import hub_id, split_revision
from ..weights.nano_cache import DEFAULT_MODEL, SHIPPED, built_folder


@dataclass
class Subject:
    """A model's description; `folder` and `collected` are None if none of its files are on this machine."""

    name: str
    source: str
    config: VideoLlama2Config
    folder: Path | None = None
    collected: stages.Collected | None = None
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def describe(model: str | Path, base: str | Path | None = None) -> Subject:
    """Configuration and files of a model, by any name that `locate` takes; the model itself is not fetched.

    Raises:
        CheckpointNotFound: an unknown model. ConfigError: its configuration can't be used.
    """
    folder = Path(model)
    if folder.is_dir():
        return _from_folder(folder.resolve().name, folder, base)
    if str(model) == DEFAULT_MODEL:
        return _nano()
    named, revision = split_revision(model)
    name = hub_id(named)
    try:
        cached = find_folder(name, HubOptions(revision=revision), fetch=False)
        if (cached / "config.json").is_file() and stages.kind(cached) == "complete":
            return _from_folder(name, cached, base)
    except CheckpointNotFound:
        if revision is not None:
            raise  # the built-in descriptions are of the main branch
    release = catalog.find(name)
    subject = Subject(release.hub_id, "built-in description; no files were read", release.config())
    if not release.chat:
        subject.notes.append(
            f"its repository has only the connector; the rest comes from {release.language.source} and "
            f"{release.vision.source}"
        )
    return subject


def _from_folder(name: str, folder: Path, base: str | Path | None) -> Subject:
    found = stages.kind(folder)
    source = {"complete": "folder", "pretrain": "folder of a pre-training stage", "lora": "LoRA folder"}[found]
    problems: list[str] = []
    collected = None
    try:
        collected = stages.collect(folder, base)
        config = collected.config
    except WeightsError as error:
        problems.append(str(error))
        config = stages.read_config(folder) if (folder / "config.json").is_file() else None
    if config is None:
        reason = "; ".join(problems) or "it describes another kind of model"
        raise ConfigError(f"{folder}: no usable config.json of a VideoLLaMA 2 ({reason}).")
    return Subject(name, source, config, folder, collected, problems=problems)


def _nano() -> Subject:
    built = built_folder()
    if built is not None:
        return _from_folder(DEFAULT_MODEL, built, None)
    config = stages.read_config(SHIPPED)
    return Subject(
        DEFAULT_MODEL, "what ships with the package; the base language model is fetched at first use", config
    )
