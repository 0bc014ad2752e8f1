"""Importing less, and faster: two of the five seconds until nano answers.

A process that only answers does without torch's compiler and process groups, which transformers imports:

    torch._dynamo               is imported for decorators that matter only while something is compiled. A stand-in
                                applies them once the compiler is imported; any other use of it imports the compiler.
    torch._meta_registrations   registers shapes of a thousand operators, which tracing takes; any use of it, or
                                `register_shapes`, imports it.
    torch.distributed           is reported as unavailable, as in a build of torch without it.
    transformers                searches the sources of its models twice for what they export; here once.

Commands that answer call `trim_torch` first of all. A library must not: its caller may train or compile.
"""

import contextlib
import functools
import gc
import importlib
import sys
import threading
from collections.abc import Callable, Iterator
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

COMPILER = "torch._dynamo"
SHAPES = "torch._meta_registrations"
SEARCH = "transformers.utils.import_utils"
_LIGHT = (
    f"{COMPILER}._trace_wrapped_higher_order_op",
)  # a module of it that transformers imports, and that stands alone
_registering = threading.RLock()


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Pause the garbage collector, which searches what imports create, a fifth of their time, and finds nothing."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def trim_torch() -> None:
    """Import torch, and no more of it than an answer takes. Does nothing if torch is imported already."""
    if "torch" in sys.modules:
        return
    sys.modules[SHAPES] = _Shapes()
    import torch

    sys.modules[COMPILER] = compiler = _Compiler()
    sys.meta_path[:0] = [_ModulesOf(compiler), _SearchOnce()]
    torch.distributed.is_available = lambda: False


def register_shapes() -> bool:
    """Import the shapes of operators if `trim_torch` left them out; returns whether it had: then they are here now."""
    with _registering:  # other threads wait until all are registered
        if isinstance(sys.modules.get(SHAPES), _Shapes):
            del sys.modules[SHAPES]
            sys.modules["torch"]._meta_registrations = importlib.import_module(SHAPES)  # type: ignore[attr-defined]
    return _Shapes.used


class _Shapes(ModuleType):
    """Stands for `torch._meta_registrations` until a name in it is used."""

    used = False

    def __init__(self) -> None:
        super().__init__(SHAPES)
        type(self).used = True

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        register_shapes()
        return getattr(sys.modules[SHAPES], name)


class _Compiler(ModuleType):
    """Stands for `torch._dynamo` until more than its decorators is used, or a module in it is imported."""

    def __init__(self) -> None:
        super().__init__(COMPILER)
        spec = PathFinder.find_spec(COMPILER, sys.modules["torch"].__path__)
        assert spec is not None
        self.__spec__, self.__path__ = spec, list(spec.submodule_search_locations or ())
        self._allowed: list[Callable[..., Any]] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.replaced(), name)

    def replaced(self) -> ModuleType:
        """The compiler itself, in the place of this object."""
        if sys.modules.get(COMPILER) is self:
            del sys.modules[COMPILER]
        register_shapes()
        compiler = importlib.import_module(COMPILER)
        while self._allowed:
            compiler.allow_in_graph(self._allowed.pop())
        return compiler

    @staticmethod
    def assume_constant_result(function: Any) -> Any:
        """As the compiler's."""
        function._dynamo_marked_constant = True
        return function

    def allow_in_graph(self, function: Any) -> Any:
        """As the compiler's, once it is imported."""
        self._allowed.append(function)
        return function

    def disable(self, function: Any = None, recursive: bool = True, **options: Any) -> Any:
        """As the compiler's, once it is imported: until then nothing is compiled that could be disabled."""
        if function is None:
            return lambda function: self.disable(function, recursive, **options)
        disabled: Any = None

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal disabled
            if disabled is None:
                compiler = sys.modules.get(COMPILER)
                if compiler is None or compiler is self:
                    return function(*args, **kwargs)
                disabled = compiler.disable(function, recursive, **options)
            return disabled(*args, **kwargs)

        return call


class _ModulesOf(MetaPathFinder):
    """Imports the compiler before its modules."""

    def __init__(self, compiler: _Compiler) -> None:
        self._compiler = compiler

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Of a module that the compiler has imported by then."""
        if name.startswith(f"{COMPILER}.") and name not in _LIGHT and sys.modules.get(COMPILER) is self._compiler:
            self._compiler.replaced()
            if name in sys.modules:
                return ModuleSpec(name, _Imported(sys.modules[name]))
        return None


class _Imported(Loader):
    """Loads a module that has been imported meanwhile."""

    def __init__(self, module: ModuleType) -> None:
        self._module, self._spec = module, module.__spec__

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """The module as it is."""
        return self._module

    def exec_module(self, module: ModuleType) -> None:
        """Nothing but its own specification is put back."""
        module.__spec__ = self._spec


class _SearchOnce(MetaPathFinder):
    """Lets transformers search a folder of sources once: it does so for the package and for `transformers.models`."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Of the module that searches; it keeps what it finds."""
        spec = PathFinder.find_spec(name, path) if name == SEARCH else None
        if spec is not None and spec.loader is not None:
            spec.loader = _Searching(spec.loader)
        return spec


class _Searching(Loader):
    """Loads the module that searches."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """As its own loader."""
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """As its own loader, then it keeps what it finds."""
        self._loader.exec_module(module)
        search = getattr(module, "define_import_structure", None)
        if search is None:  # of another version
            return

        @functools.cache
        def found(folder: Path) -> Any:
            return search(folder)

        def define_import_structure(path: Any, prefix: str | None = None) -> Any:
            path, before = Path(path), f"{prefix}." if prefix else ""
            parts = found(path.parent if path.is_file() else path)
            return {key: {before + name: set(names) for name, names in part.items()} for key, part in parts.items()}

        module.define_import_structure = define_import_structure  # type: ignore[attr-defined]
