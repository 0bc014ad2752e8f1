"""The connector of the public implementation as a variant of rows_parts.py, from a folder that the user names.

    python benchmarks/inference.py --rows 'connector*' --public ~/VideoLLaMA2

Nothing of it is here. Its package has the name of ours, so its files are imported under another one. It needs timm,
einops, and a transformers that has TRANSFORMERS_CACHE. Written from its signatures; not run yet.
"""

import importlib
import sys
import types
from pathlib import Path
from typing import Any

from torch import Tensor

CLASSES = {"stc_connector": "STCConnector", "stc_connector_v35": "STCConnectorV35"}


def connector(folder: Path, kind: str, state: dict[str, Tensor], shape: tuple[int, int, int]) -> Any:
    """Its connector with these weights."""
    config = types.SimpleNamespace(mm_hidden_size=shape[0], hidden_size=shape[1])
    module = getattr(_module(folder, "projector"), CLASSES[kind])(config)
    module.load_state_dict(state)
    return module.eval()


def _module(folder: Path, name: str) -> Any:
    package = folder / "videollama2" / "model"
    if not package.is_dir():
        raise SystemExit(f"{folder} has no videollama2/model; name the folder of the public implementation")
    alias = "public_model"
    if alias not in sys.modules:
        root = types.ModuleType(alias)
        root.__path__ = [str(package)]
        sys.modules[alias] = root
    return importlib.import_module(f"{alias}.{name}")
