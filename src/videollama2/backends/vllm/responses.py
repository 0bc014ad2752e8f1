"""Receipts in the responses of `vllm serve`.

    renderer ── note_receipts ──► the list of the request being answered ──► `receipt` of its response

vLLM has no hook for fields of a response, so `add_receipts` wraps the method that answers a chat request.
"""

import functools
import json
import logging
from collections.abc import AsyncIterator, Sequence
from contextvars import ContextVar
from dataclasses import asdict
from typing import Any

from ...receipt import MediaReceipt

logger = logging.getLogger(__name__)
_NOTED: ContextVar[list[dict[str, Any]] | None] = ContextVar("receipts", default=None)
NOTES = "videollama2_notes"  # key of a prompt: what was dropped from it
_END = "data: [DONE]\n\n"


def note_receipts(receipts: Sequence[MediaReceipt], protocol: str, prompt: Any) -> None:
    """Add the receipts of a prompt's media to the request that is being answered; log what is not used."""
    for receipt in receipts:
        for loss in receipt.loss_messages:
            logger.warning("%s", loss)
    notes = prompt.get(NOTES) or ()
    for note in notes:
        logger.warning("%s", note)
    if (receipts or notes) and (noted := _NOTED.get()) is not None:
        kwargs = prompt.get("mm_processor_kwargs") or {}
        noted.append(receipt_of(receipts, notes, kwargs.get("protocol") or protocol))


def receipt_of(receipts: Sequence[MediaReceipt], notes: Sequence[str], protocol: str) -> dict[str, Any]:
    """The receipt of a response, with the keys that our own server uses."""
    entries = [asdict(entry) for receipt in receipts for entry in (receipt.video, receipt.audio) if entry is not None]
    return {
        "protocol": protocol,
        "video": next((entry for entry in entries if "frames_used" in entry), None),
        "audio": next((entry for entry in entries if "state" in entry), None),
        "media": entries,
        "notes": list(notes),
        "losses": [loss for receipt in receipts for loss in receipt.loss_messages],
    }


def add_receipts() -> None:
    """Make chat responses carry `receipt`; does nothing where vLLM's HTTP server is not installed, or the second time.

    A stream has it in a chunk of its own, without choices, before the end.
    """
    try:
        from vllm.entrypoints.openai.chat_completion.serving import OpenAIServingChat
    except ImportError:  # a process without the server's packages
        return
    answer = OpenAIServingChat.create_chat_completion
    if hasattr(answer, "__wrapped__"):
        return

    @functools.wraps(answer)
    async def with_receipt(self: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
        noted: list[dict[str, Any]] = []
        token = _NOTED.set(noted)
        try:
            found = await answer(self, request, *args, **kwargs)
        finally:
            _NOTED.reset(token)
        if not noted:
            return found
        if hasattr(found, "__aiter__"):
            return _with_chunk(found, noted[0])
        if hasattr(found, "choices"):
            found.receipt = noted[0]
        return found

    OpenAIServingChat.create_chat_completion = with_receipt


async def _with_chunk(events: AsyncIterator[str], receipt: dict[str, Any]) -> AsyncIterator[str]:
    """The events, with the receipt before the last."""
    head: dict[str, Any] = {}
    async for event in events:
        if not head and event.startswith("data: {"):
            first = json.loads(event.removeprefix("data: "))
            head = {key: first.get(key) for key in ("id", "object", "created", "model")}
        if event == _END:
            yield f"data: {json.dumps({**head, 'choices': [], 'receipt': receipt})}\n\n"
        yield event
