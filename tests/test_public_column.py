"""The benchmarks' column for a copy of the public implementation, with a stand-in that has its layout and names."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
PROJECTOR = """
from transformers import TRANSFORMERS_CACHE
from .parts import Connector  # its files import each other relatively

class STCConnector(Connector):
    def __init__(self, config, downsample=(2, 2, 2), depth=4, mlp_depth=2):
        super().__init__(config.mm_hidden_size, config.hidden_size, 1)

class STCConnectorV35(Connector):
    def __init__(self, config, downsample=(2, 2, 2), depth=4, mlp_depth=2):
        super().__init__(config.mm_hidden_size, config.hidden_size, 0)
"""


@pytest.fixture
def rows_parts(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """benchmarks/rows_parts.py, imported as the benchmarks import it."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import rows_parts

    yield rows_parts
    for name in set(sys.modules) - before:
        file = getattr(sys.modules[name], "__file__", None)
        if name.startswith("public_model") or (file and Path(file).parent == BENCHMARKS):
            del sys.modules[name]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A stand-in; its `__init__` files fail, as the original's do with the libraries of today."""
    model = tmp_path / "copy" / "videollama2" / "model"
    model.mkdir(parents=True)
    for package in (model.parent, model):
        (package / "__init__.py").write_text("raise ImportError")
    (model / "parts.py").write_text("from plain import Connector")
    (model / "projector.py").write_text(PROJECTOR)
    return tmp_path / "copy"


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("kind", ["stc_connector", "stc_connector_v35"])
def test_a_row_has_the_column_of_the_named_folder(rows_parts: Any, folder: Path, kind: str, backward: bool) -> None:
    import measure

    case = rows_parts._connector(kind, 2, backward, folder, shape=(16, 32, 4))
    assert list(case.variants) == ["ours", "plain", "public"]
    row = measure.run_case(kind, case, 1, measure.CPU, measure.Rates(1e9, 1e9))
    assert row.timings["public"]["runs"] == 1
    assert row.difference is not None and row.difference < 1e-4, "of all three"
    assert "public 0." in measure.table([row])
    module = case.variants["public"].args[0]
    assert type(module).__module__ == "public_model.projector"


def test_other_numbers_than_ours_end_the_row(rows_parts: Any, folder: Path) -> None:
    import measure

    case = rows_parts._connector("stc_connector_v35", 2, False, folder, shape=(16, 32, 4))
    with torch.no_grad():
        case.variants["public"].args[0].readout[2].bias.add_(1)
    with pytest.raises(AssertionError, match="the variants differ"):
        measure.run_case("row", case, 1, measure.CPU, measure.Rates(1e9, 1e9))


def test_a_folder_without_it_and_a_missing_library_are_named(rows_parts: Any, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no videollama2/model"):
        rows_parts._connector("stc_connector", 2, False, tmp_path / "other", shape=(16, 32, 4))
    (folder / "videollama2" / "model" / "parts.py").write_text("import nowhere_to_be_found")
    with pytest.raises(SystemExit, match="nowhere_to_be_found"):
        rows_parts._connector("stc_connector", 2, False, folder, shape=(16, 32, 4))
