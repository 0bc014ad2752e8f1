"""Where the built nano is cached. Imports no torch, so that its settings are known before anything else is loaded."""

import hashlib
import os
from pathlib import Path

from ..errors import CheckpointNotFound

DEFAULT_MODEL = "nano"
SHIPPED = Path(__file__).parent.parent / "nano"
BASE_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def is_nano(model: str | Path) -> bool:
    """Whether a name means the built-in nano, whose folder already contains its base. A folder `nano` comes first."""
    return str(model) == DEFAULT_MODEL and not Path(model).exists()


def cache_root() -> Path:
    """The folder of downloaded and derived files."""
    named = os.environ.get("VIDEOLLAMA2_CACHE")
    return Path(named) if named else Path.home() / ".cache" / "videollama2"


def built_folder(base: str | Path | None = None, *, shipped: Path = SHIPPED) -> Path | None:
    """The folder that `nano_folder` returns, if already cached; nothing is built or fetched."""
    target = cache_folder(shipped, base)
    return target if (target / "config.json").is_file() else None


def cache_folder(shipped: Path, base: str | Path | None) -> Path:
    """Named by a hash of the shipped files and the base, from names, sizes and small files alone.

    Raises:
        CheckpointNotFound: the package was installed without its model.
    """
    files = sorted(p for p in shipped.glob("*") if p.suffix in (".safetensors", ".json", ".jinja"))
    if not any(p.name == "config.json" for p in files):
        raise CheckpointNotFound(
            f"{shipped} has no config.json; the package was installed without its model; reinstall it."
        )
    digest = hashlib.sha256(f"{base or BASE_SHA256}\n".encode())
    for path in files:
        digest.update(f"{path.name} {path.stat().st_size}\n".encode())
        if path.suffix == ".safetensors":
            with path.open("rb") as file:  # header and first tensors, in which a retrained part differs
                digest.update(file.read(1 << 20))
        elif path.name == "config.json":
            digest.update(path.read_bytes())
    return cache_root() / f"nano-{digest.hexdigest()[:16]}"
