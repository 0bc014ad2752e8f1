"""vLLM inside our own server: requests go in from any thread, generated ids come back as they arrive.

    Generation (slots and items, options) ── Generator ── AsyncLLM, on a thread with an event loop ──► on_ids, on_end

vLLM's engine core is a process of its own; here is only its client.
"""

import asyncio
import itertools
import os
import threading
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ...errors import MissingExtra, UsageError, VideoLlama2Error
from ...generation.sampling import GenerateOptions
from ...receipt import TokenLogprob
from .items import ServedMedia
from .plugin import RANGE, register_with_vllm, unsupported

_START_SECONDS = 1800.0  # of a large model on a slow disk


@dataclass(frozen=True, kw_only=True)
class Generation:
    """One request to vLLM.

    Attributes:
        ids: the prompt, with one negative id per media item.
        media: the items, in prompt order.
        options: with the checkpoint's defaults.
        stop_ids: end the answer.
        on_ids: called with new ids, and their log probabilities if requested; on the generator's thread.
        on_end: called once, with the error if there is one.
    """

    ids: Sequence[int]
    media: Sequence[ServedMedia]
    options: GenerateOptions
    stop_ids: Sequence[int]
    on_ids: Callable[[list[int], list[TokenLogprob] | None], None]
    on_end: Callable[[Exception | None], None]


class Generator:
    """vLLM's engine, and a thread that talks to it.

    Attributes:
        name: of the arithmetic, for receipts: vLLM and its version.
        config: vLLM's configuration of the model: dtype, longest sequence.
        device: where it runs.
    """

    def __init__(self, folder: Path, **arguments: Any) -> None:
        """Start the engine; takes as long as loading the model does.

        Args:
            arguments: vLLM's engine arguments.

        Raises:
            MissingExtra: vLLM is not installed, or another version. UsageError: vLLM rejects an argument.
        """
        self.name = f"vLLM {require_vllm()}"
        self._numbers = itertools.count()
        self._running: dict[int, asyncio.Task[None]] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="vllm", daemon=True)
        self._thread.start()
        try:
            self._llm: Any = self._wait(self._start(folder, arguments), _START_SECONDS)
        except BaseException:
            self._loop.call_soon_threadsafe(self._loop.stop)
            raise
        self.config = self._llm.vllm_config.model_config
        self.device = str(self._llm.vllm_config.device_config.device_type)

    @staticmethod
    async def _start(folder: Path, arguments: dict[str, Any]) -> Any:
        os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM

        register_with_vllm()
        try:
            return AsyncLLM.from_engine_args(AsyncEngineArgs(model=str(folder), **arguments))
        except VideoLlama2Error:
            raise
        except (TypeError, ValueError) as error:
            raise UsageError(f"vLLM rejects its settings: {' '.join(str(error).split())[:400]}.") from error

    @property
    def alive(self) -> bool:
        """Whether vLLM can answer."""
        return self._thread.is_alive() and not self._llm.errored

    def begin(self, generation: Generation) -> int:
        """Start generating; returns a number for `cancel`."""
        number = next(self._numbers)

        def start() -> None:
            self._running[number] = self._loop.create_task(self._generate(number, generation))

        self._loop.call_soon_threadsafe(start)
        return number

    def cancel(self, number: int) -> None:
        """End a request; its `on_end` is not called, unless it has been."""

        def stop() -> None:
            if task := self._running.pop(number, None):
                task.cancel()

        self._loop.call_soon_threadsafe(stop)

    def close(self) -> None:
        """End vLLM."""
        if self._loop.is_running():
            self._loop.call_soon_threadsafe(self._llm.shutdown)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(30)

    async def _generate(self, number: int, generation: Generation) -> None:
        failure: Exception | None = None
        try:
            prompt = await self._prompt(generation)
            params = sampling_params(generation.options, generation.stop_ids)
            async for output in self._llm.generate(prompt, params, f"request-{number}"):
                new = output.outputs[0]
                generation.on_ids(list(new.token_ids), logprobs_of_tokens(new))
        except Exception as error:  # of this request, or of the engine; reported to its client
            failure = error
        if self._running.pop(number, None) is not None:
            generation.on_end(failure)

    async def _prompt(self, generation: Generation) -> Any:
        renderer = self._llm.renderer
        prompt: dict[str, Any] = {"prompt_token_ids": list(generation.ids)}
        for item in generation.media:
            prompt.setdefault("multi_modal_data", {}).setdefault(item.kind, []).append(item)
        (made,) = await renderer.render_cmpl_async([prompt], renderer.default_cmpl_tok_params)
        return made

    def _wait(self, work: Coroutine[Any, Any, Any], seconds: float) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(seconds)


def require_vllm() -> str:
    """The version of vLLM that is installed.

    Raises:
        MissingExtra: none, or an unsupported one.
    """
    if not find_spec("vllm"):
        raise MissingExtra(
            f"vLLM is not installed here; expected {RANGE} beside this package: pip install videollama2 "
            f"'{RANGE}' (docs/scale.md)."
        )
    from vllm.version import __version__

    if problem := unsupported(__version__):
        raise MissingExtra(problem)
    return str(__version__)


def sampling_params(options: GenerateOptions, stop_ids: Sequence[int]) -> Any:
    """Our options, with defaults filled in, as vLLM's."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

    from ...generation.structured import with_layout
    from .penalty import ARGUMENT

    schema = options.schema
    return SamplingParams(
        max_tokens=options.max_new_tokens,
        temperature=options.temperature,
        top_p=1.0 if options.top_p is None else options.top_p,
        top_k=options.top_k or 0,
        seed=options.seed,
        stop_token_ids=list(stop_ids),
        logprobs=options.top_logprobs,
        detokenize=False,
        output_kind=RequestOutputKind.DELTA,
        structured_outputs=None if schema is None else StructuredOutputsParams(json=with_layout(schema)),
        extra_args={ARGUMENT: options.repetition_penalty or 1.0},
    )


def logprobs_of_tokens(output: Any) -> list[TokenLogprob] | None:
    """The log probabilities of vLLM's new tokens; None if they were not requested."""
    if output.logprobs is None:
        return None
    made = []
    for token, found in zip(output.token_ids, output.logprobs, strict=True):
        ranked = sorted(((one.rank, id, one.logprob) for id, one in found.items() if one.rank is not None))
        # vLLM adds the token itself to the most likely ones
        top = [(id, logprob) for _, id, logprob in ranked]
        limit = len(found) - (1 if found[token].rank > len(found) - 1 else 0)
        made.append(TokenLogprob(token, found[token].logprob, tuple(top[:limit])))
    return made
