"""Messages → the ids that our Engine would use, with one negative id per media item.

vLLM's own renderer writes tags into the text and looks for them again, so that a user's `<video>` would be one too.
Here user text is data, in every role (text/tokenization.py). Only a prompt that is text itself, as `LLM.generate` and
/v1/completions take it, has tags and control tokens; its author writes them.
"""

import asyncio
import contextlib
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from vllm import envs
from vllm.multimodal.media import MediaConnector, MediaIO
from vllm.multimodal.media.connector import MEDIA_CONNECTOR_REGISTRY
from vllm.renderers.base import BaseRenderer
from vllm.renderers.inputs import DictPrompt
from vllm.tokenizers.hf import get_cached_tokenizer, maybe_make_thread_pool
from vllm.utils.async_utils import make_async

from ...errors import UsageError
from ...media.in_memory import from_base64
from ...media.worker import WorkerPool
from ...receipt import Modality
from ...text.media_parts import as_dicts
from ...text.prompts import parse_messages, render_turns
from ...text.rendering import Turn, chat_template, template_variables
from ...text.tokenization import SLOT_IDS, Segment, Slot, load_tokenizer, tokenise_pieces
from .configuring import served_processor
from .items import PART_OPTIONS, RequestOptions, ServedMedia, checked_part, served_media
from .processing import RECEIPTS, Info
from .responses import NOTES, note_receipts

# type of a part → (its modality, whether its body is an object with this key)
_PARTS: dict[str, tuple[Modality, str]] = {
    "image_url": ("image", "url"),
    "video_url": ("video", "url"),
    "audio_url": ("audio", "url"),
    "input_audio": ("audio", "data"),
}
_OURS: tuple[Modality, ...] = ("image", "video", "audio")  # parts as our processor takes them, for `LLM.chat`
_TAG = re.compile(r"<(image|video|audio)>")
_OF_VLLM = {"chat_template", "add_generation_prompt", "continue_final_message", "tools", "messages"}


class VideoLlama2Tokenizer:
    """Loads the tokenizer of a checkpoint as our processor does, also from a SentencePiece file alone."""

    @classmethod
    def from_pretrained(cls, name: str | Path, *_: Any, **__: Any) -> Any:
        """With the properties that vLLM caches."""
        from ...hub import find_folder

        return get_cached_tokenizer(load_tokenizer(find_folder(name, weights=False)))


class RawMedia(MediaIO[bytes]):
    """Media as they arrive: our own decoders read them."""

    def load_bytes(self, data: bytes) -> bytes:
        """Unchanged."""
        return data

    def load_base64(self, media_type: str, data: str) -> bytes:
        """Of a data URL."""
        return from_base64(data)

    def load_file(self, filepath: Path) -> bytes:
        """Of a file below --allowed-local-media-path."""
        return filepath.read_bytes()


class VideoLlama2Renderer(BaseRenderer[Any]):
    """Prompts of this package, in place of vLLM's."""

    def __init__(self, config: Any, tokenizer: Any) -> None:
        super().__init__(config, tokenizer)
        self._processor = served_processor(config.model_config)
        self._workers = WorkerPool(workers=max(2, config.model_config.renderer_num_workers))
        self._resources.callback(self._workers.close)
        self._ids_async = make_async(self._ids, executor=self._executor)
        if self.tokenizer is not None:
            maybe_make_thread_pool(self.tokenizer, config.model_config.renderer_num_workers + 1)
            # shared by the threads that write prompts
            self._own_tokenizer = prompt_tokenizer(config.model_config)
            self._tokenizer_lock = threading.Lock()

    # ── messages ───────────────────────────────────────────────────────────────────────────────────────────────

    def render_messages(self, messages: list[Any], params: Any) -> tuple[list[Any], DictPrompt]:
        """Ids, items, and the messages as text for vLLM's log.

        Raises:
            UsageError, PromptError, MediaError: the request can't be used.
        """
        asked = _Asked.read(messages, params, self._info)
        connector = self._connector(params)
        sources = [_fetched(part, connector) for part in asked.parts]
        return asked.conversation, _prompt(*self._ids(asked), asked.items(sources))

    async def render_messages_async(self, messages: list[Any], params: Any) -> tuple[list[Any], DictPrompt]:
        """As `render_messages`: media are fetched concurrently, and decoded on threads."""
        asked = _Asked.read(messages, params, self._info)
        connector = self._connector(params)
        sources = await asyncio.gather(*(_fetched_async(part, connector) for part in asked.parts))
        items = asked.items(sources)
        for item in items:  # from clients: a file that crashes its decoder must not take the server with it
            item.opener = self._workers.open_clip
        ids, notes = await self._ids_async(asked)
        await asyncio.gather(*(asyncio.to_thread(self._read_ahead, item) for item in items))
        return asked.conversation, _prompt(ids, notes, items)

    @property
    def _info(self) -> Info:
        info = self.get_mm_processor().info
        assert isinstance(info, Info)
        return info

    def _connector(self, params: Any) -> MediaConnector:
        config = self.model_config
        return MEDIA_CONNECTOR_REGISTRY.load(
            envs.VLLM_MEDIA_CONNECTOR,
            media_io_kwargs=params.media_io_kwargs,
            allowed_local_media_path=config.allowed_local_media_path,
            allowed_media_domains=config.allowed_media_domains,
        )

    def _ids(self, asked: "_Asked") -> tuple[list[int], tuple[str, ...]]:
        """The prompt, with one negative id per media item, and what was dropped from it."""
        tokenizer, options = self._own_tokenizer, asked.rendering
        template = options["template"] or chat_template(tokenizer)
        known = template_variables(template) - _OF_VLLM
        variables = {name: value for name, value in options["variables"].items() if name in known}
        system = self._processor.config.system_prompt
        options = {**options, "template": template, "variables": variables}
        with self._tokenizer_lock:
            rendered, notes = render_turns(asked.turns, tokenizer, system_prompt=system, **options)
            return list(rendered.tokenise(tokenizer)), notes

    def _read_ahead(self, item: ServedMedia) -> None:
        """Decode an item, unless its encoder inputs are cached; so that vLLM's one processing thread need not."""
        cache = self._mm_processor_cache
        key = self.get_mm_processor().key_of(item)
        if item.media is not None and not (cache is not None and cache.is_cached([key])[0]):
            item.decoded(self._processor)

    # ── text prompts ───────────────────────────────────────────────────────────────────────────────────────────

    def _tokenize_prompt(self, prompt: Any, params: Any) -> Any:
        """A prompt that is text: with media, its tags are their places."""
        if not prompt.get("multi_modal_data"):
            return super()._tokenize_prompt(prompt, params)
        split = _TAG.split(prompt["prompt"])
        pieces = [
            Slot(part) if k % 2 else Segment(part, trusted=True)  # type: ignore[arg-type]
            for k, part in enumerate(split)
        ]
        with self._tokenizer_lock:
            ids = tokenise_pieces([p for p in pieces if isinstance(p, Slot) or p.text], self._own_tokenizer)
        return self._build_tokens_prompt(ids, prompt)

    # ── receipts ───────────────────────────────────────────────────────────────────────────────────────────────

    def _process_tokens(self, prompt: Any, *, skip_mm_cache: bool = False) -> Any:
        made: Any = super()._process_tokens(prompt, skip_mm_cache=skip_mm_cache)
        _check_slots(made["prompt_token_ids"])
        note_receipts(made.get(RECEIPTS, ()), self._info.default_protocol, prompt)
        return made

    async def _process_tokens_async(self, prompt: Any, *, skip_mm_cache: bool = False) -> Any:
        made: Any = await super()._process_tokens_async(prompt, skip_mm_cache=skip_mm_cache)
        _check_slots(made["prompt_token_ids"])
        note_receipts(made.get(RECEIPTS, ()), self._info.default_protocol, prompt)
        return made


def _prompt(ids: list[int], notes: Sequence[str], items: Sequence[ServedMedia]) -> DictPrompt:
    prompt: Any = {"prompt_token_ids": ids, NOTES: notes}
    for item in items:
        prompt.setdefault("multi_modal_data", {}).setdefault(item.kind, []).append(item)
    return prompt


def prompt_tokenizer(model_config: Any) -> Any:
    """The tokenizer that prompts are written with."""
    return served_processor(model_config).tokenizer


def _check_slots(ids: Sequence[int]) -> None:
    left = set(SLOT_IDS.values()) & set(ids)
    if left:
        raise UsageError("the prompt has a media tag without a media item; expected one item for each tag.")


class _Asked:
    """A chat request, read."""

    def __init__(
        self,
        turns: list[Turn],
        parts: list[Mapping[str, Any]],
        conversation: list[Any],
        request: RequestOptions,
        default_protocol: str,
        rendering: dict[str, Any],
    ) -> None:
        self.turns, self.parts, self.conversation, self.rendering = turns, parts, conversation, rendering
        self._request, self._protocol = request, default_protocol

    @classmethod
    def read(cls, messages: Sequence[Any], params: Any, info: Info) -> "_Asked":
        """Check everything that can be checked before media are fetched."""
        parts: list[Mapping[str, Any]] = []
        plain: list[dict[str, Any]] = []
        for message in map(as_dicts, messages):
            role = "system" if message.get("role") == "developer" else message.get("role")
            if refused := [key for key in ("tool_calls", "tool_call_id") if message.get(key)]:
                raise UsageError(f"a message has {refused[0]}, which this model does not support; remove it.")
            plain.append({"role": role, "content": _content(message.get("content"), parts)})
        counts: dict[str, int] = {}
        for part in parts:
            counts[part["kind"]] = counts.get(part["kind"], 0) + 1
        for kind, count in counts.items():
            info.validate_num_items(kind, count)
        turns = parse_messages(plain)
        texts = [
            {"role": turn.role, "content": "".join(p if isinstance(p, str) else f"<{p.modality}>" for p in turn.parts)}
            for turn in turns
        ]
        request = RequestOptions.read(info.ctx.get_merged_mm_kwargs(params.mm_processor_kwargs or {}))
        return cls(turns, parts, texts, request, info.default_protocol, _rendering(params))

    def items(self, sources: Sequence[Any]) -> list[ServedMedia]:
        """The media items, in prompt order."""
        return [
            served_media(
                part["kind"], source, self._request, self._protocol, part=part["options"], uuid=part["uuid"],
                name="the media item" if len(self.parts) == 1 else f"media item {number}",
            )
            for number, (part, source) in enumerate(zip(self.parts, sources, strict=True), 1)
        ]  # fmt: skip


def _rendering(params: Any) -> dict[str, Any]:
    """Options of `render` for what vLLM passes to a chat template."""
    given = dict(params.chat_template_kwargs or {})
    if given.get("tools"):
        raise UsageError("this model does not support tools; remove `tools` from the request.")
    return {
        "template": params.chat_template or given.get("chat_template"),
        "add_generation_prompt": bool(given.get("add_generation_prompt", True)),
        "continue_final": bool(given.get("continue_final_message", False)),
        "variables": given,
    }


def _content(content: Any, parts: list[Mapping[str, Any]]) -> Any:
    """A message's content as our prompts take it; its media parts are appended to `parts`."""
    if content is None or isinstance(content, str):
        return content or ""
    made: list[dict[str, Any]] = []
    for part in content:
        kind = "text" if isinstance(part, str) else part.get("type")
        if kind in ("text", "input_text"):
            made.append({"type": "text", "text": part if isinstance(part, str) else part.get("text", "")})
            continue
        if kind not in (*_PARTS, *_OURS):
            raise UsageError(f"a part has type {kind!r:.40}; expected text, {', '.join(_PARTS)}.")
        modality, key = _PARTS[kind] if kind in _PARTS else (cast(Modality, kind), "")
        body = part.get(kind)
        source = body.get(key) if isinstance(body, Mapping) and key else body
        unknown = sorted(set(part) - {"type", kind, "uuid", "detail", *PART_OPTIONS} - {None})
        if unknown:
            raise UsageError(f"a {kind} part has {unknown[0]!r:.40}; expected {kind}, uuid, {', '.join(PART_OPTIONS)}.")
        options = checked_part(modality, part)
        is_url = kind in _PARTS and kind != "input_audio"
        parts.append(
            {"kind": modality, "source": source, "url": is_url, "uuid": part.get("uuid"), "options": options,
             "base64": kind == "input_audio"}
        )  # fmt: skip
        made.append({"type": modality})
    return made


def _fetched(part: Mapping[str, Any], connector: MediaConnector) -> Any:
    source = part["source"]
    if not source or not part["url"]:
        return from_base64(source) if source and part["base64"] else source
    with _of_client():
        return connector.load_from_url(source, RawMedia(), fetch_timeout=_timeout(part["kind"]))


async def _fetched_async(part: Mapping[str, Any], connector: MediaConnector) -> Any:
    if not part["source"] or not part["url"]:
        return _fetched(part, connector)
    with _of_client():
        return await connector.load_from_url_async(part["source"], RawMedia(), fetch_timeout=_timeout(part["kind"]))


@contextlib.contextmanager
def _of_client() -> Iterator[None]:
    """vLLM's errors about a client's URL as errors of its request: some would be the server's."""
    try:
        yield
    except (RuntimeError, NotImplementedError, OSError) as error:
        raise UsageError(f"the media URL can't be used: {error}") from error


def _timeout(kind: Modality) -> int:
    """Seconds for a download, by vLLM's own settings."""
    return int(getattr(envs, f"VLLM_{kind.upper()}_FETCH_TIMEOUT"))
