"""Many requests in one batch: padded on the left, each row as if it were alone (Engine.batch)."""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from .errors import UsageError
from .generation import decode
from .receipt import Answer, FinishReason

if TYPE_CHECKING:
    from .engine import Engine, Request


def answer_batch(engine: "Engine", requests: Sequence["Request"]) -> list[Answer]:
    """Answers in the order of the requests.

    Raises:
        UsageError: the requests differ in their generation options.
        VideoLlama2Error: a medium can't be used; its number is in the message's context (`batch_index`).
    """
    from .processing import with_modalities

    if not requests:
        return []
    if len({request.options for request in requests}) > 1:
        raise UsageError("the requests of one batch must share their generation options; send the others separately")
    opened, encoded = [], []
    for index, request in enumerate(requests):
        try:
            media, messages = request.conversation()
            one = engine._prepare(media, request, None)
            opened.append(one)
            encoded.append(engine.processor.encode(with_modalities(messages, one.prepared), one.prepared))
        except Exception as error:
            error.add_note(f"in request {index} of the batch")
            raise
    started = time.perf_counter()
    rooms = [engine.room(e, requests[0].options) for e in encoded]
    options = replace(rooms[0], max_new_tokens=min(r.max_new_tokens for r in rooms))
    with engine._lock, torch.inference_mode():
        rows = [engine.embed(e, o.features)[0] for e, o in zip(encoded, opened, strict=True)]
        width = max(len(row) for row in rows)
        embeds = rows[0].new_zeros(len(rows), width, rows[0].shape[1])
        mask = torch.zeros(len(rows), width, dtype=torch.long, device=embeds.device)
        for i, row in enumerate(rows):
            embeds[i, width - len(row) :], mask[i, width - len(row) :] = row, 1
        said = torch.stack(list(decode(engine.model, embeds, mask, options, engine.stop_ids)), 1).tolist()
    spent = time.perf_counter() - started
    answers = []
    for one, prompt, ids in zip(opened, encoded, said, strict=True):
        end = next((i for i, token in enumerate(ids) if token in engine.stop_ids), None)
        finish: FinishReason = "length" if end is None else "stop"
        generated = len(ids) if end is None else end + 1
        timings = {**one.timings, "generate_seconds": spent, "batch_size": float(len(requests))}
        text = engine.processor.decode(ids[:end]).strip()
        answers.append(Answer(text, finish, engine.receipt(one, prompt, generated), timings))
    return answers
