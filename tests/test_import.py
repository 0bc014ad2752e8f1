"""Importing is quick and light, and every public name is what it says."""

import importlib
import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

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


UNUSED = (
    "sympy", "mpmath", "torch._dynamo", "torch._inductor", "torch.onnx", "torch.distributed.tensor",
    "torch.distributed.fsdp", "torch.distributed.checkpoint", "torch.utils.tensorboard",
    "transformers.trainer", "transformers.pipelines", "sklearn", "scipy", "pandas", "matplotlib", "peft", "datasets",
    "videollama2.train.loop", "videollama2.evals.loop", "videollama2.serve.app", "videollama2.preflight.check",
)  # fmt: skip
MAX_MODULES = 2100  # 1,800 in November 2026, 1,904 with every extra installed; 2,700 without `lean_imports`


@pytest.mark.nano
def test_an_answer_imports_what_it_takes(media: Path) -> None:
    """Modules are counted, not seconds: imports were two thirds of the time until nano's first word."""
    code = (
        "import json, sys, videollama2.cli\n"
        f"sys.argv = ['videollama2', 'ask', {str(media / 'clip.mp4')!r}, 'What is it?', '--max-new-tokens', '2']\n"
        "assert videollama2.cli.main() == 0\n"
        "light = sys.modules.pop('torch._dynamo')\n"
        "assert type(light).__module__ == 'videollama2.lean_imports'\n"
        "sys.modules.pop('torch._dynamo._trace_wrapped_higher_order_op', None)\n"
        "print(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    modules = json.loads(done.stdout.splitlines()[-1])
    unused = [name for name in modules if any(name == one or name.startswith(f"{one}.") for one in UNUSED)]
    assert not unused, "find who imports it with python -X importtime"
    assert len(modules) <= MAX_MODULES


def test_torch_without_its_compiler_still_compiles() -> None:
    code = (
        "import sys\nfrom videollama2.lean_imports import trim_torch\n"
        "trim_torch()\n"
        "import torch, transformers.modeling_utils\n"
        "assert not torch.distributed.is_available()\n"
        "off = torch.compiler.disable(lambda x: 2 * x, reason='a test')\n"
        "light = sys.modules['torch._dynamo']\n"
        "assert light is not None and 'torch._dynamo.eval_frame' not in sys.modules and off(torch.ones(1)) == 2\n"
        "graphs = []\n"
        "def backend(graph, inputs):\n    graphs.append(graph)\n    return graph.forward\n"
        "compiled = torch.compile(lambda x: off(x + 1) + 1, backend=backend)\n"
        "assert compiled(torch.ones(1)) == 5 and len(graphs) == 2, 'the function is not compiled into the graph'\n"
        "assert sys.modules['torch._dynamo'] is not light and 'torch._dynamo.eval_frame' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)


def trimmed(code: str) -> str:
    """What `code` prints in a new process with less of torch."""
    return printed(f"from videollama2.lean_imports import trim_torch\ntrim_torch()\n{code}")


def printed(code: str) -> str:
    """What `code` prints in a new process."""
    fixed = {**os.environ, "PYTHONHASHSEED": "0"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, env=fixed)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_shapes_of_operators_are_registered_once_one_is_missing() -> None:
    trimmed(
        "import sys, torch\nfrom videollama2.lean_imports import register_shapes\n"
        "from videollama2.weights.meta import ShapesOnly\n"
        "x = torch.empty(4, 4, device='meta')\n"
        "with ShapesOnly():\n"
        "    assert x.roll(1).shape == (4, 4)\n"
        "assert register_shapes() and sys.modules['torch._meta_registrations'] is torch._meta_registrations\n"
        "assert torch._meta_registrations.__file__"
    )
    trimmed(
        "import torch\nfrom videollama2.weights.meta import ShapesOnly\n"
        "with ShapesOnly(), torch.device('meta'):\n"
        "    assert torch.tril_indices(4, 4).shape == (2, 10) and torch.randperm(4).shape == (4,)\n"
        "    x = torch.empty(4, 4)\n"
        "    assert torch.roll(input=x, shifts=1).shape == (4, 4)\n"
        "    assert torch.where(condition=x > 0, input=x, other=x).shape == (4, 4)"
    )
    trimmed(
        "import threading, torch\nfrom concurrent.futures import ThreadPoolExecutor\n"
        "from videollama2.weights.meta import ShapesOnly\n"
        "together = threading.Barrier(6)\n"
        "def build(_):\n"
        "    with ShapesOnly(), torch.device('meta'):\n"
        "        together.wait()\n"
        "        return torch.empty(4, 4).roll(1).shape\n"
        "with ThreadPoolExecutor(6) as pool:\n"
        "    assert list(pool.map(build, range(6))) == [(4, 4)] * 6"
    )
    plain = printed("from videollama2.lean_imports import register_shapes\nimport torch\nprint(register_shapes())")
    assert plain.strip() == "False"
    trimmed(
        "import sys\nlight = sys.modules['torch._meta_registrations']\n"
        "from torch._meta_registrations import register_meta\n"
        "assert callable(register_meta) and sys.modules['torch._meta_registrations'] is not light"
    )


def test_transformers_searched_once_is_the_same() -> None:
    code = (
        "import transformers, transformers.models\n"
        "for module in (transformers, transformers.models):\n"
        "    print(sorted(map(str, module._class_to_module.items())), sorted(dir(module)))\n"
        "    print(sorted(map(str, module._object_missing_backend.items())))"
    )
    plain = printed(code)
    assert len(plain) > 100_000 and trimmed(code) == plain


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


def test_the_doctor_counts_no_tokens_without_transformers() -> None:
    """Importing it takes three CPU seconds, and a check of media alone has no use for it."""
    modules, _, _ = fresh("import videollama2.data.doctor.examine, videollama2.data.doctor.report")
    assert "transformers" not in modules
