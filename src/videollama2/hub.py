"""Resolves checkpoint names to local folders, through the Hugging Face hub and its cache."""

import difflib
import logging
from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from .errors import CheckpointNotFound, UsageError

logger = logging.getLogger(__name__)

# Never code and never pickles.
SETTINGS_FILES = ("*.json", "*.model", "*.jinja", "*.txt")


class UnknownArgument(UsageError, TypeError):
    """An unknown argument."""


@dataclass(frozen=True)
class HubOptions:
    """Which files of a hub repository, and how to fetch them; as in transformers' `from_pretrained`.

    Attributes:
        revision: a branch, tag or commit; None: the main branch.
        subfolder: of the repository, or of a local folder.
        variant: in the weights' file names, as in `model.fp16.safetensors`.
        cache_dir: in place of huggingface_hub's own.
        token: for private repositories; True: the stored one.
        local_files_only: use only the cache.
        force_download: download even if cached.
        proxies: rejected if set, because huggingface_hub no longer accepts them.
    """

    revision: str | None = None
    subfolder: str = ""
    variant: str | None = None
    cache_dir: str | Path | None = None
    token: str | bool | None = None
    local_files_only: bool = False
    force_download: bool = False
    proxies: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        if self.proxies:
            raise UsageError("huggingface_hub does not accept proxies per call; set HTTPS_PROXY in the environment.")

    @classmethod
    def take(cls, kwargs: MutableMapping[str, Any]) -> "HubOptions":
        """Remove these options from keyword arguments and return them; None means the default."""
        given = {f.name: kwargs.pop(f.name) for f in fields(cls) if f.name in kwargs}
        return cls(**{name: value for name, value in given.items() if value is not None})

    def for_another(self) -> "HubOptions":
        """The options for another repository, such as a base model: same cache and token, but its main branch."""
        return replace(self, revision=None, subfolder="", variant=None)


DEFAULTS = HubOptions()


def find_folder(name: str | Path, options: HubOptions = DEFAULTS, *, fetch: bool = True, weights: bool = True) -> Path:
    """The local folder of a checkpoint: a path, or a hub id whose files are in the local cache or can be fetched.

    Args:
        fetch: whether files that are not in the local cache may be downloaded.
        weights: whether to fetch the weights too.

    Raises:
        CheckpointNotFound: neither a folder nor available from the hub.
    """
    folder = Path(name)
    if folder.is_file():
        raise CheckpointNotFound(f"{folder} is a file; expected a checkpoint folder with a config.json.")
    if folder.is_dir():
        if options.revision not in (None, "main"):
            logger.warning("revision %r has no effect: %s is a local folder", str(options.revision), folder)
    else:
        folder = _snapshot(str(name), options, fetch=fetch, weights=weights)
    if not options.subfolder:
        return folder
    if not (folder / options.subfolder).is_dir():
        raise CheckpointNotFound(f"{name} has no subfolder {options.subfolder!r}.")
    return folder / options.subfolder


def _snapshot(name: str, options: HubOptions, *, fetch: bool, weights: bool) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    fetch = fetch and not options.local_files_only
    patterns = list(SETTINGS_FILES)
    if weights:
        ending = "" if options.variant is None else f".{options.variant}"
        patterns += [f"*{ending}.safetensors", f"*{ending}-*.safetensors"]  # one file, or shards
    within = f"{options.subfolder.strip('/')}/" if options.subfolder else ""
    at = "" if options.revision is None else f" at revision {str(options.revision)!r}"
    try:
        return Path(
            snapshot_download(
                name,
                revision=options.revision,
                cache_dir=options.cache_dir,
                token=options.token,
                force_download=options.force_download,
                local_files_only=not fetch,
                allow_patterns=[within + pattern for pattern in patterns],
            )
        )
    except (OSError, HFValidationError, ValueError) as error:
        if not fetch:
            raise CheckpointNotFound(f"{name!r}{at} is neither a local folder nor in the hub cache.") from error
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointNotFound(
            f"no checkpoint {name!r}{at}: not a local folder, not in the hub cache, and the download failed "
            f"({reason}). Pass a folder, or run `videollama2 info` to list the built-in names."
        ) from error


def refuse_unknown(unknown: Iterable[str], known: Iterable[str], where: str) -> None:
    """Raise UnknownArgument if any are `unknown`, naming each with the closest known argument."""
    named = []
    for name in sorted(unknown):
        near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.8)
        named.append(f"{name!r}" + (f" (did you mean {near[0]!r}?)" if near else ""))
    if named:
        raise UnknownArgument(f"{where} got {len(named)} unknown argument(s): {', '.join(named)}; remove them")
