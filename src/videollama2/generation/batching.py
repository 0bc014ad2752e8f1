"""Many requests in one batch: padded on the left, each row as if it were alone (Engine.batch)."""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..errors import UsageError
from ..processing import Encoded
from ..receipt import Answer
from .output import CONTEXT_ENDS, Said
from .request import Request
from .sampling import decode
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
    said = [Said(engine.processor, replace(options, max_new_tokens=limit), engine.stop_ids) for limit in limits]
    seconds: list[float] = []  # of each step

    def watch(logits: Tensor, tokens: Tensor) -> None:
        for row, one, token in zip(said, logits, tokens.tolist(), strict=True):
            if row.finish is None:
                row.see(one, token)

    with engine.lock:
        started = time.perf_counter()
        embeds, mask = pad_left([engine.embed(e, o.features)[0] for e, o in zip(encoded, opened, strict=True)])
        watched = watch if options.top_logprobs is not None else None
        for tokens in decode(engine.model, embeds, mask, options, engine.stop_ids, watch=watched):
            for row, token in zip(said, tokens.tolist(), strict=True):
                if row.finish is None:
                    row.push(token)
            seconds.append(time.perf_counter() - started)
            if all(row.finish for row in said):  # each by a stop text or its own limit
                break
            started = time.perf_counter()
    asked = requests[0].options.max_new_tokens
    rows = zip(opened, encoded, said, limits, strict=True)
    return [_answer(engine, o, e, s, seconds, cut=limit < asked) for o, e, s, limit in rows]


def _answer(
    engine: "Engine", opened: Opened, encoded: Encoded, said: Said, seconds: list[float], *, cut: bool
) -> Answer:
    notes = (CONTEXT_ENDS,) if cut and said.finish == "length" else ()
    # the batch's seconds are everyone's: a row waits for the others
    timings = timings_of(opened.take_timings(), seconds[0], sum(seconds[1:]), said.generated)
    return said.answer(engine.receipt(opened, encoded, said.generated, notes), timings)


def pad_left(rows: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Rows [L_i, D] as one tensor [B, L, D], zeros first, and its mask int64 [B, L]."""
    width = max(len(row) for row in rows)
    embeds = rows[0].new_zeros(len(rows), width, rows[0].shape[1])
    mask = torch.zeros(len(rows), width, dtype=torch.long, device=embeds.device)
    for i, row in enumerate(rows):
        embeds[i, width - len(row) :], mask[i, width - len(row) :] = row, 1
    return embeds, mask
