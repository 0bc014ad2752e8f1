"""Examples to a training batch: truncate, pad on the right, mask (spec §6.5)."""

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from ..errors import PromptError
from ..text.tokenization import SLOT_MODALITIES
from .labels import IGNORE, Example


def truncate(example: Example, max_length: int, placeholders: Collection[int] = ()) -> Example:
    """The first `max_length` ids.

    The public implementation counts a medium as one id here, that is, it truncates before `Example.expand`; after it,
    pass the placeholder ids. Raises PromptError where the cut takes a medium, or part of one, away (the public
    implementation goes on with a sample that has lost its picture), or leaves nothing to learn from.
    """
    cut = example.ids[max_length:]
    lost = sum(i in SLOT_MODALITIES or i in placeholders for i in cut)
    if lost:
        raise PromptError(
            f"truncating {len(example.ids)} ids to {max_length} would cut off {lost} ids of media; raise "
            "model_max_length, use fewer frames, or leave the sample out"
        )
    return Example(example.ids[:max_length], example.labels[:max_length])


def collate(
    examples: Sequence[Example],
    pad_token_id: int,
    max_length: int | None = None,
    placeholders: Collection[int] = (),
) -> dict[str, Tensor]:
    """A batch, padded on the right to its longest example.

    Returns int64 [B, L] `input_ids` (padded with `pad_token_id`), `labels` (with IGNORE) and `attention_mask` (1 where
    there is text or media). The mask comes from the lengths, so a padding id inside a text is not masked.
    Raises PromptError as `truncate`, and for an empty batch.
    """
    if not examples:
        raise PromptError("an empty batch; give at least one example")
    if max_length is not None:
        examples = [truncate(example, max_length, placeholders) for example in examples]
    longest = max(len(example.ids) for example in examples)
    shape = (len(examples), longest)
    input_ids = torch.full(shape, pad_token_id, dtype=torch.long)
    labels = torch.full(shape, IGNORE, dtype=torch.long)
    attention_mask = torch.zeros(shape, dtype=torch.long)
    for row, example in enumerate(examples):
        length = len(example.ids)
        input_ids[row, :length] = torch.tensor(example.ids)
        labels[row, :length] = torch.tensor(example.labels)
        attention_mask[row, :length] = 1
    return {"input_ids": input_ids, "labels": labels, "attention_mask": attention_mask}
