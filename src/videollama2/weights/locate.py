"""Resolves a model name (a folder, `nano`, a released name or a hub id) to a local folder."""

from dataclasses import replace
from pathlib import Path

from ..errors import CheckpointNotFound, UsageError
from ..hub import DEFAULTS, HubOptions, find_folder
from . import catalog
from .nano import nano_folder
from .nano_cache import DEFAULT_MODEL, is_nano


def locate(model: str | Path, base: str | Path | None = None, options: HubOptions = DEFAULTS) -> tuple[Path, str]:
    """The folder of a model, fetched if necessary, and its name in receipts.

    Args:
        model: a folder, `nano`, a released name (`2.1-7b-av`), or a hub id, also with its revision (`org/model@v2`).
        base: nano's base language model, if not the pinned one.
        options: of a hub id.

    Raises:
        CheckpointNotFound: not one of these, or it could not be fetched.
        UsageError: a revision, subfolder or variant of nano, which has none.
    """
    path = Path(model)
    if path.exists():
        return find_folder(path, options), path.resolve().name
    if is_nano(model):
        if options.for_another() != options:
            raise UsageError(f"{DEFAULT_MODEL} is built in: it has no revision, subfolder or variant.")
        if options != DEFAULTS and base is not None and not Path(base).exists():
            base = find_folder(base, options)
        return nano_folder(base), DEFAULT_MODEL
    model, revision = split_revision(model)
    if revision is not None:
        if options.revision not in (None, revision):
            raise UsageError(f"got two revisions of {model}: {revision!r} and {options.revision!r}; expected one.")
        options = replace(options, revision=revision)
    name = hub_id(model)
    return find_folder(name, options), name if options.revision is None else f"{name}@{options.revision}"


def at_revision(model: str, revision: str | None) -> str:
    """The name of a hub id's revision, as `locate` takes it.

    Raises:
        UsageError: a revision of nano or of a folder, which have none.
    """
    if revision is None:
        return model
    if is_nano(model) or Path(model).exists():
        raise UsageError(f"--revision {revision} is for a hub id; {model} has no revisions.")
    return f"{model}@{revision}"


def split_revision(model: str | Path) -> tuple[str, str | None]:
    """A hub id and its revision: `org/model@v2` → (`org/model`, `v2`)."""
    name, _, revision = str(model).partition("@")
    return name, revision or None


def hub_id(model: str | Path) -> str:
    """The hub id of a released name; another hub id passes through.

    Raises:
        CheckpointNotFound: neither; the nearest released name is suggested.
    """
    try:
        return catalog.find(str(model)).hub_id
    except CheckpointNotFound:
        if "/" not in str(model):
            raise
        return str(model)
