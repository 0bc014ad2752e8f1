"""The one resolver of model names: a folder, `nano`, a released name, or a hub id → a local folder."""

from pathlib import Path

from ..errors import CheckpointNotFound
from . import catalog
from .files import find_folder
from .nano import nano_folder

DEFAULT_MODEL = "nano"


def locate(model: str | Path, base: str | Path | None = None) -> tuple[Path, str]:
    """The folder of a model, fetched if need be, and the name that its receipts carry.

    Args:
        model: a folder, `nano`, a released name (`2.1-7b-av`), or a hub id.
        base: nano's base language model, if not the pinned one.

    Raises:
        CheckpointNotFound: none of these, or it could not be fetched.
    """
    path = Path(model)
    if path.exists():
        return find_folder(path), path.resolve().name
    if str(model) == DEFAULT_MODEL:
        return nano_folder(base), DEFAULT_MODEL
    name = hub_id(model)
    return find_folder(name), name


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
