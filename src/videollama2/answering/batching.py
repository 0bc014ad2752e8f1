"""Many requests in one batch: padded on the left, each row as if it were alone (Engine.batch)."""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..errors import UsageError
from ..processing import Encoded
from ..receipt import Answer, FinishReason
from .generation import decode
from .request import Request
from .session import Opened, timings_of

if TYPE_CHECKING:
    from ..engine import Engine


def answer_batch(engine: "Engine", requests: Sequence[Request]) -> list[Answer]:
    """Answers in the order of the requests.

    Raises:
        UsageError: the requests differ in their generation options.
        VideoLlama2Error: one can't be answered; the error's note has its number.
    """
    if not requests:
        return []
    if len({request.options for request in requests}) > 1:
        raise UsageError("the requests of one batch must share their generation options; send the others separately")
    opened, encoded, limits = [], [], []
    for index, request in enumerate(requests):
        try:
            media, messages = request.conversation()
            one = engine.prepare(media, request)
            prompt = engine.processor.encode(messages, one.prepared)
            options = engine.room(prompt, request.options)
        except Exception as error:
            error.add_note(f"in request {index} of the batch")
            raise
        opened.append(one)
        encoded.append(prompt)
        limits.append(options.max_new_tokens)
    options = replace(options, max_new_tokens=max(limits))
    seconds: list[float] = []  # of each step
    steps: list[Tensor] = []
    with engine.lock:
        started = time.perf_counter()
        embeds, mask = pad_left([engine.embed(e, o.features)[0] for e, o in zip(encoded, opened, strict=True)])
        for tokens in decode(engine.model, embeds, mask, options, engine.stop_ids):
            steps.append(tokens)
            seconds.append(time.perf_counter() - started)
            started = time.perf_counter()
    said = torch.stack(steps, 1).tolist()
    asked = requests[0].options.max_new_tokens
    rows = zip(opened, encoded, said, limits, strict=True)
    return [_answer(engine, o, e, ids[:limit], seconds, cut=limit < asked) for o, e, ids, limit in rows]


def _answer(
    engine: "Engine", opened: Opened, encoded: Encoded, ids: list[int], seconds: list[float], *, cut: bool
) -> Answer:
    end = next((i for i, token in enumerate(ids) if token in engine.stop_ids), None)
    finish: FinishReason = "length" if end is None else "stop"
    generated = len(ids) if end is None else end + 1
    notes = ("the answer ends where the model's context does",) if cut and finish == "length" else ()
    text = engine.processor.decode(ids[:end]).strip()
    # the batch's seconds are everyone's: a row waits for the others
    timings = timings_of(opened.take_timings(), seconds[0], sum(seconds[1:]), generated)
    return Answer(text, finish, engine.receipt(opened, encoded, generated, notes), timings)


def pad_left(rows: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Rows [L_i, D] as one tensor [B, L, D], zeros first, and its mask int64 [B, L]."""
    width = max(len(row) for row in rows)
    embeds = rows[0].new_zeros(len(rows), width, rows[0].shape[1])
    mask = torch.zeros(len(rows), width, dtype=torch.long, device=embeds.device)
    for i, row in enumerate(rows):
        embeds[i, width - len(row) :], mask[i, width - len(row) :] = row, 1
    return embeds, mask
