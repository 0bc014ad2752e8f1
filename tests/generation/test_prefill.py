"""Prompts that are computed together: which passes, and the same numbers as one by one."""

from typing import Any

import pytest
import torch
from transformers import DynamicCache

from videollama2.engine import Engine
from videollama2.generation.prefill import prefill
from videollama2.generation.prompt import PromptAccount, PromptEmbeddings
from videollama2.generation.sampling import GenerateOptions
from videollama2.generation.sequence import ActiveSequence


def sequence(engine: Engine, *ids: int) -> ActiveSequence:
    with torch.inference_mode():
        embeds = engine.model.get_input_embeddings()(torch.tensor([ids]))
    prompt = PromptEmbeddings(embeds, PromptAccount(input_ids=ids))
    return ActiveSequence(prompt, GenerateOptions(max_new_tokens=4), lambda ids: "", [2])


@pytest.fixture
def passes(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Shapes [rows, positions] of the language model's passes."""
    shapes: list[tuple[int, int]] = []
    trunk = engine.model.model.forward

    def counted(*args: Any, **kwargs: Any) -> Any:
        shapes.append(tuple(kwargs["inputs_embeds"].shape[:2]))
        return trunk(*args, **kwargs)

    monkeypatch.setattr(engine.model.model, "forward", counted)
    return shapes


@torch.inference_mode()
def logits_of(engine: Engine, new: list[ActiveSequence]) -> dict[ActiveSequence, torch.Tensor]:
    return {
        s: row for group in prefill(engine.model, new) for s, row in zip(group.sequences, group.logits, strict=True)
    }


@torch.inference_mode()
def same_logits(engine: Engine, new: list[ActiveSequence]) -> None:
    together = logits_of(engine, new)
    assert list(together) != [] and set(together) == set(new)
    for one in new:
        alone = engine.model(inputs_embeds=one.embeds).logits[0, -1]
        torch.testing.assert_close(together[one], alone, atol=1e-4, rtol=0)


def test_a_shared_beginning_is_computed_once(engine: Engine, passes: list[tuple[int, int]]) -> None:
    clip = range(10, 110)
    new = [sequence(engine, *clip, 3, 4), sequence(engine, *range(120, 180)), sequence(engine, *clip, *range(5, 15))]
    new.append(sequence(engine, *clip, 3, 4))  # the same question: one position is left to compute
    logits_of(engine, new)
    assert sorted(passes) == [(1, 60), (1, 100), (3, 10)]
    same_logits(engine, new)


def test_equal_ids_of_other_media_share_nothing(engine: Engine, passes: list[tuple[int, int]]) -> None:
    ids = (*range(10, 110), 3)
    one, other = sequence(engine, *ids), sequence(engine, *ids)
    assert other.embeds is not None
    other.embeds = other.embeds.clone()
    other.embeds[0, 20] += 1.0  # another clip's token in the place of the same placeholder
    logits_of(engine, [one, other])
    assert passes == [(2, 101)]
    same_logits(engine, [one, other])


def test_prompts_of_similar_length_are_padded_together(engine: Engine, passes: list[tuple[int, int]]) -> None:
    lengths = (80, 20, 100, 22, 76, 5)
    new = [sequence(engine, *range(start, start + n)) for start, n in zip(range(3, 60, 10), lengths, strict=True)]
    logits_of(engine, new)
    assert passes == [(3, 100), (2, 22), (1, 5)]
    same_logits(engine, new)


def test_a_given_cache_is_continued_in_one_pass(engine: Engine, passes: list[tuple[int, int]]) -> None:
    ids = tuple(range(10, 80))
    whole, rest = sequence(engine, *ids), sequence(engine, *ids)
    cache = DynamicCache(config=engine.model.config.text_config)
    with torch.inference_mode():
        expected = logits_of(engine, [whole])[whole]
        engine.model(inputs_embeds=rest.embeds[:, :60], past_key_values=cache, use_cache=True)
        rest.skip(60)
        passes.clear()
        (group,) = prefill(engine.model, [rest], cache)
    assert passes == [(1, 10)]
    torch.testing.assert_close(group.logits[0], expected, atol=1e-4, rtol=0)
