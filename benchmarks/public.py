"""The connector of the public implementation as a variant of rows_parts.py, from a folder that the user names.

    python benchmarks/inference.py --rows 'connector*' --public ~/VideoLLaMA2

Nothing of it is here. Its package has the name of ours, so its files are imported under another one, without its
`__init__` files. It needs timm and einops. Tried with a stand-in of the same layout (tests/test_public_column.py), not
with the original.
"""

import importlib
import sys
import types
from pathlib import Path
from typing import Any

import transformers
from torch import Tensor

CLASSES = {"stc_connector": "STCConnector", "stc_connector_v35": "STCConnectorV35"}


def connector(folder: Path, kind: str, state: dict[str, Tensor], shape: tuple[int, int, int]) -> Any:
    """Its connector with these weights."""
    config = types.SimpleNamespace(mm_hidden_size=shape[0], hidden_size=shape[1])
    module = getattr(_module(folder, "projector"), CLASSES[kind])(config)
    module.load_state_dict(state)
    return module.eval()


def _module(folder: Path, name: str) -> Any:
    package = folder.expanduser() / "videollama2" / "model"
    if not package.is_dir():
        raise SystemExit(f"{folder} has no videollama2/model; name the folder of the public implementation")
    alias = "public_model"
    if alias not in sys.modules:
        root = types.ModuleType(alias)
        root.__path__ = [str(package)]
        sys.modules[alias] = root
    if "TRANSFORMERS_CACHE" not in vars(transformers):  # removed since; only its download of weights reads it
        transformers.TRANSFORMERS_CACHE = ""
    try:
        return importlib.import_module(f"{alias}.{name}")
    except ImportError as error:
        raise SystemExit(f"{package / name}.py could not be imported: {error}; install what it imports") from error
