"""VideoLLaMA 2: one model that sees, hears and answers.

    import videollama2

    engine = videollama2.load("nano")
    answer = engine.answer("clip.mp4", "What do you see and hear?")
    print(answer.text, answer.receipt)

A tour, in the order in which an answer is computed: `media` (files to arrays), `processing` (arrays to model inputs),
`vision`, `stc`, `beats` (encoders and connector), `fusion` and `modeling` (the model), `text` (words to ids and back),
`generation` (requests, sessions, decoding), `engine` (all of it behind `answer`), and `receipt` (what was used).
`phases` and `train` train models, `weights` reads and writes them.

Names are imported on first use, so that `import videollama2` is fast.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .beats import BeatsConfig
    from .configuration import VideoLlama2Config
    from .engine import Engine
    from .errors import VideoLlama2Error
    from .generation.request import Request
    from .generation.sampling import GenerateOptions
    from .generation.session import Session
    from .loading import load
    from .modeling import VideoLlama2ForConditionalGeneration, VideoLlama2Model
    from .processing import VideoLlama2Processor
    from .protocols import PROTOCOLS, Protocol
    from .receipt import Answer, Receipt
    from .registration import register
    from .released_api import mm_infer, model_init
    from .text.media_parts import Media

__version__ = "0.1.0"

_HOMES = {
    "Answer": "receipt",
    "BeatsConfig": "beats",
    "Engine": "engine",
    "GenerateOptions": "generation.sampling",
    "Media": "text.media_parts",
    "PROTOCOLS": "protocols",
    "Protocol": "protocols",
    "Receipt": "receipt",
    "Request": "generation.request",
    "Session": "generation.session",
    "VideoLlama2Config": "configuration",
    "VideoLlama2Error": "errors",
    "VideoLlama2ForConditionalGeneration": "modeling",
    "VideoLlama2Model": "modeling",
    "VideoLlama2Processor": "processing",
    "load": "loading",
    "mm_infer": "released_api",
    "model_init": "released_api",
    "register": "registration",
}

__all__ = [
    "PROTOCOLS",
    "Answer",
    "BeatsConfig",
    "Engine",
    "GenerateOptions",
    "Media",
    "Protocol",
    "Receipt",
    "Request",
    "Session",
    "VideoLlama2Config",
    "VideoLlama2Error",
    "VideoLlama2ForConditionalGeneration",
    "VideoLlama2Model",
    "VideoLlama2Processor",
    "__version__",
    "load",
    "mm_infer",
    "model_init",
    "register",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'videollama2' has no attribute {name!r}")
    from .lean_imports import uncollected

    with uncollected():
        return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
