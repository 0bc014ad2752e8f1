"""transformers' common test suites, from the source distribution of the version that is installed.

    python tests/ecosystem/suites.py        # download, check against the pinned sha256, unpack; prints the folder

The source distribution holds the suites' top-level files only. Three modules that they import live in folders that it
leaves out: the configuration's common keyword arguments, the exporters and the generation suite. `exporting.py` and
`generating.py` beside this file check what those document, and take their place. The suite of pipelines can't run:
its checks are left out, and it downloads its models. tests/test_processing.py runs the pipeline.
"""

import hashlib
import importlib
import os
import subprocess
import sys
import tarfile
import tempfile
import types
from importlib.metadata import version
from pathlib import Path

SHA256 = {
    "5.16.1": "17b0eac726ddc55e84ac58946063e0c6d37fd000c456b581f050ea0f4e822869",
    "5.23.0": "19d647a4d5d903a7c644ca5cde2d86efc3dde7d8c687ae7988806ff2205efa71",
    "5.24.0": "906cb8c3cb2123575e263962586a4d21a979ce97feeb95fe6aaf66fe6ae88bf3",
}
FILES = ("test_modeling_common", "test_configuration_common", "test_processing_common", "test_pipeline_mixin")
PACKAGE = "transformers_suites"


def folder() -> Path:
    """Where the suites of the installed version are kept (VIDEOLLAMA2_SUITES, or the user's cache)."""
    root = os.environ.get("VIDEOLLAMA2_SUITES") or Path.home() / ".cache" / "videollama2" / "suites"
    return Path(root) / f"transformers-{version('transformers')}"


def fetch() -> Path:
    """Download and unpack the suites, unless they are there.

    Raises:
        SystemExit: no sha256 is pinned for the installed version, or the download does not match it.
    """
    target, number = folder(), version("transformers")
    if all((target / f"{name}.py").is_file() for name in FILES):
        (target / "__init__.py").touch()  # the configuration suite imports it by its path
        return target
    with tempfile.TemporaryDirectory() as place:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        subprocess.run([*command, "--no-binary", ":all:", "--dest", place, f"transformers=={number}"], check=True)
        archive = Path(place) / f"transformers-{number}.tar.gz"
        found = hashlib.sha256(archive.read_bytes()).hexdigest()
        if SHA256.get(number) != found:
            expected = SHA256.get(number) or "none: add it to SHA256 once you trust this download"
            sys.exit(f"{archive.name} has the sha256 {found}; expected {expected}")
        target.mkdir(parents=True, exist_ok=True)
        with tarfile.open(archive) as files:
            for name in FILES:
                member = files.extractfile(f"transformers-{number}/tests/{name}.py")
                assert member is not None
                (target / f"{name}.py").write_bytes(member.read())
    (target / "__init__.py").touch()  # the configuration suite imports it by its path
    return target


def load(name: str) -> types.ModuleType:
    """A module of the suites, such as `test_modeling_common`.

    Raises:
        ModuleNotFoundError: `fetch` has not run.
    """
    if PACKAGE not in sys.modules:
        package = types.ModuleType(PACKAGE)
        package.__path__ = [str(folder())]
        sys.modules[PACKAGE] = package
        for inner, ours in (("exporters.test_export", "exporting"), ("generation.test_utils", "generating")):
            parent = f"{PACKAGE}.{inner.partition('.')[0]}"
            sys.modules[parent] = types.ModuleType(parent)
            sys.modules[f"{PACKAGE}.{inner}"] = importlib.import_module(f"{__package__}.{ours}")
        utils = f"{PACKAGE}.utils"
        common = types.ModuleType(f"{utils}.test_configuration_utils")
        common.config_common_kwargs = {"return_dict": False, "output_hidden_states": True, "output_attentions": True}
        sys.modules[utils], sys.modules[common.__name__] = types.ModuleType(utils), common
        downloads = types.ModuleType("fetch_hub_objects_for_ci")  # beside the suites, in a folder that is left out, too
        downloads.url_to_local_path = media_instead_of
        sys.modules[downloads.__name__] = downloads
    return importlib.import_module(f"{PACKAGE}.{name}")


def media_instead_of(url: str) -> str:
    """A file of our own in place of one that the suites download, with the same name."""
    from PIL import Image

    from .. import tiny

    path = Path(tempfile.gettempdir()) / f"videollama2-suites-{os.getpid()}" / url.rpartition("/")[2]
    path.parent.mkdir(exist_ok=True)
    if path.suffix in (".png", ".jpg"):
        Image.new("RGB", (64, 48), (200, 90, 30)).save(path)
    elif path.suffix == ".mp4":
        tiny.write_clip(path)
    else:
        tiny.write_wave(path, tiny.tone(1.5))
    return str(path)


if __name__ == "__main__":
    print(fetch())
