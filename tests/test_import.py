"""Importing is quick and light, and every public name is what it says."""

import importlib
import inspect
import json
import subprocess
import sys

import pytest

import videollama2

HEAVY = {"torch", "transformers", "av", "PIL", "numpy", "peft", "accelerate", "bitsandbytes", "gguf", "huggingface_hub"}


def fresh(code: str) -> tuple[set[str], float, str]:
    """The top-level modules that a new interpreter has after `code`, its seconds of CPU in it, and its output."""
    program = (
        "import json, sys, time; began = time.process_time()\n"
        f"{code}\n"
        "took = time.process_time() - began\n"
        "print(json.dumps([sorted({m.partition('.')[0] for m in sys.modules}), took]))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    *printed, last = done.stdout.splitlines()
    modules, took = json.loads(last)
    return set(modules), took, "\n".join(printed)


def test_importing_the_package_is_quick_and_light() -> None:
    modules, took, _ = fresh("import videollama2")
    assert not modules & HEAVY
    assert took < 1.0


def test_the_command_lines_help_is_quick_and_light() -> None:
    code = "import contextlib, videollama2.cli\nwith contextlib.suppress(SystemExit): videollama2.cli.main(['--help'])"
    modules, took, printed = fresh(code)
    assert "examples:" in printed
    assert not modules & (HEAVY - {"numpy"})
    assert took < 1.0


def test_protocols_and_errors_need_no_heavy_package() -> None:
    modules, _, _ = fresh("import videollama2\nvideollama2.PROTOCOLS, videollama2.VideoLlama2Error")
    assert not modules & HEAVY


def test_public_names_are_sorted_true_and_documented() -> None:
    kinds = [(not name.isupper(), not name[0].isupper(), name) for name in videollama2.__all__]
    assert kinds == sorted(kinds), "constants, classes, functions"
    assert len(set(videollama2.__all__)) == len(videollama2.__all__)
    assert set(videollama2._HOMES) | {"__version__"} == set(videollama2.__all__) == set(dir(videollama2))
    for name in videollama2.__all__:
        value = getattr(videollama2, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert value.__doc__ and value.__module__.startswith("videollama2"), name
            assert not value.__doc__.startswith(f"{name}("), f"{name} has only dataclass's own docstring"


def test_public_methods_are_documented() -> None:
    for name in videollama2.__all__:
        value = getattr(videollama2, name)
        if inspect.isclass(value):
            for method, function in vars(value).items():
                if inspect.isfunction(function) and not method.startswith("_"):
                    assert function.__doc__, f"{name}.{method}"


def test_no_public_name_is_also_a_module() -> None:
    """Importing the module `x` would put it in the place of the function `x`."""
    for name in videollama2.__all__:
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module(f"videollama2.{name}")


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        _ = videollama2.lod  # type: ignore[attr-defined]


def test_the_version_is_the_installed_one() -> None:
    from importlib.metadata import version

    assert videollama2.__version__ == version("videollama2")
