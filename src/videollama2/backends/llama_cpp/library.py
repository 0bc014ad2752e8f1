"""llama.cpp's C interface, as the wheel `xllamacpp` exports it: the few functions used here, by ctypes.

C structs are passed by value, so a build with another layout would read garbage. `load` compares the sizes and defaults
of both parameter structs with those declared here before anything else is called, and refuses a build that differs.
"""

import ctypes
import functools
import logging
import platform
import threading
from collections import deque
from ctypes import POINTER, Structure, c_bool, c_char_p, c_float, c_int8, c_int32, c_int64, c_size_t, c_uint32, c_void_p
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from ...errors import MissingExtra

logger = logging.getLogger(__name__)

PACKAGE, VERSION = "xllamacpp", "2026.10.11549"
INSTALL = "pip install 'videollama2[gguf]'"
WARNING, ERROR, CONTINUED = 3, 4, 5  # enum ggml_log_level
F32, F16 = 0, 1  # enum ggml_type


class ModelParams(Structure):
    """struct llama_model_params."""

    FUNCTION = "llama_model_default_params"
    _fields_ = (
        ("devices", c_void_p),
        ("tensor_buft_overrides", c_void_p),
        ("n_gpu_layers", c_int32),
        ("split_mode", c_int32),
        ("load_mode", c_int32),
        ("lazy_mode", c_int32),
        ("main_gpu", c_int32),
        ("tensor_split", c_void_p),
        ("progress_callback", c_void_p),
        ("progress_callback_user_data", c_void_p),
        ("kv_overrides", c_void_p),
        ("vocab_only", c_bool),
        ("check_tensors", c_bool),
        ("use_extra_bufts", c_bool),
        ("no_host", c_bool),
        ("no_alloc", c_bool),
        ("load_mtp", c_bool),
    )
    DEFAULTS: ClassVar[dict[str, Any]] = {
        "n_gpu_layers": -1, "split_mode": 1, "load_mode": -1, "lazy_mode": 1, "use_extra_bufts": True,
    }  # fmt: skip


class ContextParams(Structure):
    """struct llama_context_params."""

    FUNCTION = "llama_context_default_params"
    _fields_ = (
        ("n_ctx", c_uint32),
        ("n_batch", c_uint32),
        ("n_ubatch", c_uint32),
        ("n_seq_max", c_uint32),
        ("n_rs_seq", c_uint32),
        ("n_outputs_max", c_uint32),
        ("n_outputs_max_per_seq", c_uint32),
        ("n_threads", c_int32),
        ("n_threads_batch", c_int32),
        ("ctx_type", c_int32),
        ("rope_scaling_type", c_int32),
        ("pooling_type", c_int32),
        ("attention_type", c_int32),
        ("flash_attn_type", c_int32),
        ("rope_freq_base", c_float),
        ("rope_freq_scale", c_float),
        ("yarn_ext_factor", c_float),
        ("yarn_attn_factor", c_float),
        ("yarn_beta_fast", c_float),
        ("yarn_beta_slow", c_float),
        ("yarn_orig_ctx", c_uint32),
        ("defrag_thold", c_float),
        ("cb_eval", c_void_p),
        ("cb_eval_user_data", c_void_p),
        ("type_k", c_int32),
        ("type_v", c_int32),
        ("abort_callback", c_void_p),
        ("abort_callback_data", c_void_p),
        ("reserved", c_void_p),
        ("embeddings", c_bool),
        ("offload_kqv", c_bool),
        ("no_perf", c_bool),
        ("op_offload", c_bool),
        ("swa_full", c_bool),
        ("kv_unified", c_bool),
        ("samplers", c_void_p),
        ("n_samplers", c_size_t),
        ("ctx_other", c_void_p),
    )
    DEFAULTS: ClassVar[dict[str, Any]] = {
        "n_ctx": 512, "n_batch": 2048, "n_ubatch": 512, "n_seq_max": 1, "n_outputs_max_per_seq": 1,
                "n_threads": 4, "n_threads_batch": 4, "rope_scaling_type": -1, "pooling_type": -1,
                "attention_type": -1, "flash_attn_type": -1, "yarn_ext_factor": -1, "yarn_attn_factor": -1,
                "yarn_beta_fast": -1, "yarn_beta_slow": -1, "defrag_thold": -1, "type_k": F16, "type_v": F16,
                "offload_kqv": True, "no_perf": True, "op_offload": True, "swa_full": True,
    }  # fmt: skip


class BatchStruct(Structure):
    """struct llama_batch."""

    _fields_ = (
        ("n_tokens", c_int32),
        ("token", POINTER(c_int32)),
        ("embd", POINTER(c_float)),
        ("pos", POINTER(c_int32)),
        ("n_seq_id", POINTER(c_int32)),
        ("seq_id", POINTER(POINTER(c_int32))),
        ("logits", POINTER(c_int8)),
    )


LogCallback = ctypes.CFUNCTYPE(None, c_int32, c_char_p, c_void_p)
AbortCallback = ctypes.CFUNCTYPE(c_bool, c_void_p)

_FUNCTIONS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "llama_backend_init": (None, ()),
    "llama_log_set": (None, (LogCallback, c_void_p)),
    "llama_model_default_params": (ModelParams, ()),
    "llama_context_default_params": (ContextParams, ()),
    "llama_model_load_from_file": (c_void_p, (c_char_p, ModelParams)),
    "llama_model_free": (None, (c_void_p,)),
    "llama_model_get_vocab": (c_void_p, (c_void_p,)),
    "llama_vocab_n_tokens": (c_int32, (c_void_p,)),
    "llama_model_n_embd": (c_int32, (c_void_p,)),
    "llama_init_from_model": (c_void_p, (c_void_p, ContextParams)),
    "llama_free": (None, (c_void_p,)),
    "llama_n_ctx": (c_uint32, (c_void_p,)),
    "llama_n_batch": (c_uint32, (c_void_p,)),
    "llama_n_seq_max": (c_uint32, (c_void_p,)),
    "llama_n_threads": (c_int32, (c_void_p,)),
    "llama_set_abort_callback": (None, (c_void_p, AbortCallback, c_void_p)),
    "llama_decode": (c_int32, (c_void_p, BatchStruct)),
    "llama_get_logits_ith": (POINTER(c_float), (c_void_p, c_int32)),
    "llama_get_memory": (c_void_p, (c_void_p,)),
    "llama_memory_seq_rm": (c_bool, (c_void_p, c_int32, c_int32, c_int32)),
    "llama_memory_seq_cp": (None, (c_void_p, c_int32, c_int32, c_int32, c_int32)),
    "llama_state_get_size": (c_size_t, (c_void_p,)),
    "llama_state_get_data": (c_size_t, (c_void_p, c_void_p, c_size_t)),
    "llama_state_set_data": (c_size_t, (c_void_p, c_void_p, c_size_t)),
    "ggml_quantize_chunk": (c_size_t, (c_int32, c_void_p, c_void_p, c_int64, c_int64, c_int64, c_void_p)),
    "ggml_row_size": (c_size_t, (c_int32, c_int64)),
}


class Library:
    """The loaded library: its functions are attributes.

    Attributes:
        version: of the wheel.
    """

    def __init__(self, handle: ctypes.CDLL, version: str) -> None:
        self._handle, self.version = handle, version
        self._lines: deque[str] = deque(maxlen=8)
        self._lock = threading.Lock()
        self._callback = LogCallback(self._log)
        for name, (result, arguments) in _FUNCTIONS.items():
            function = getattr(handle, name)
            function.restype, function.argtypes = result, arguments
            setattr(self, name, function)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"llama.cpp has no function {name!r} here")

    def start(self) -> None:
        """Take over its log, and initialise it."""
        self.llama_log_set(self._callback, None)
        self.llama_backend_init()

    def complaints(self) -> str:
        """Its latest warnings and errors, joined, and forgotten."""
        with self._lock:
            found = "; ".join(dict.fromkeys(line for line in self._lines if line))
            self._lines.clear()
        return found

    def _log(self, level: int, text: bytes, _: Any) -> None:
        line = (text or b"").decode(errors="replace").strip()
        logger.debug("%s", line)
        if level in (WARNING, ERROR):
            with self._lock:
                self._lines.append(line)


@functools.cache
def load() -> Library:
    """The library, loaded and checked once per process.

    Raises:
        MissingExtra: the wheel is not installed, or its build has another layout.
    """
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise MissingExtra(f"--engine llama.cpp requires {PACKAGE}, which is not installed: {INSTALL}")
    version = _version()
    found = sorted(Path(spec.origin).parent.glob(f"{PACKAGE}*.so")) + sorted(Path(spec.origin).parent.glob("*.pyd"))
    if not found:
        raise MissingExtra(
            f"{PACKAGE} {version} has no library in {Path(spec.origin).parent}; install it again: {INSTALL}"
        )
    try:
        library = Library(ctypes.CDLL(str(found[0])), version)
    except (OSError, AttributeError) as error:
        raise MissingExtra(f"{PACKAGE} {version} can't be used ({error}); expected {VERSION}: {INSTALL}") from error
    if wrong := layout_differences(library):
        raise MissingExtra(
            f"{PACKAGE} {version} has another layout than {VERSION} ({wrong[0]}), and calling it would crash: {INSTALL}"
        )
    library.start()
    return library


def layout_differences(library: Any) -> list[str]:
    """How the library's parameter structs differ from those declared here; empty if they agree."""
    wrong = []
    for kind in (ModelParams, ContextParams):
        function = kind.FUNCTION
        size = _written(getattr(library, function))
        if size is not None and size != _end(kind):
            wrong.append(f"{function} writes {size} bytes, expected {_end(kind)}")
            continue
        found = getattr(library, function)()
        for name, *_ in kind._fields_:
            value, expected = getattr(found, name) or 0, kind.DEFAULTS.get(name, 0)
            if value != expected:
                wrong.append(f"{function} sets {name} to {value}, expected {expected}")
    return wrong


def _end(kind: Any) -> int:
    """The last byte of the last field; what follows is padding."""
    name, *_ = kind._fields_[-1]
    field = getattr(kind, name)
    return int(field.offset + field.size)


def _written(function: Any) -> int | None:
    """How many bytes a function returning a large struct writes; None where its address is not a plain argument."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return None
    ends = []
    for fill in (0xAA, 0x55):  # a byte that equals one filling differs from the other
        room = (ctypes.c_ubyte * 4096)(*([fill] * 4096))
        raw = ctypes.CFUNCTYPE(None, c_void_p)(ctypes.cast(function, c_void_p).value or 0)
        raw(ctypes.addressof(room))
        ends.append(max((i for i, byte in enumerate(room) if byte != fill), default=-1) + 1)
    return max(ends)


def _version() -> str:
    try:
        return metadata.version(PACKAGE)
    except metadata.PackageNotFoundError:
        return "of unknown version"
