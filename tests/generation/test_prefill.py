"""Prompts that are computed together: which passes, and the same numbers as one by one."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import DynamicCache

from videollama2.engine import Engine
from videollama2.generation.prefill import Beginning, BeginningsCache, prefill
from videollama2.generation.prompt import PromptAccount, PromptEmbeddings
from videollama2.generation.sampling import GenerateOptions
from videollama2.generation.sequence import ActiveSequence
from videollama2.text.prompts import Span


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


# ── beginnings of earlier prompts ───────────────────────────────────────────────────────────────────────────────────


def about(engine: Engine, clip: str, *question: int) -> ActiveSequence:
    """A prompt with 60 tokens of a clip from position 5 on."""
    ids = (3, 4, 5, 6, 7, *range(20, 80), *question)
    made = sequence(engine, *ids)
    made.account = replace(made.account, spans=(Span("video", 5, 60),), media_keys=(clip,))
    if clip != "a" and made.embeds is not None:
        made.embeds = made.embeds.clone()
        made.embeds[0, 5:65] += 0.5  # its tokens are other ones, for the same placeholders
    return made


def test_a_clips_place_in_a_prompt_is_computed_once_for_all_time(engine: Engine, passes: list[tuple[int, int]]) -> None:
    cache = BeginningsCache(1 << 20)
    with torch.inference_mode():
        prefill(engine.model, [about(engine, "a", 8, 9)], beginnings=cache)
        prefill(engine.model, [about(engine, "b", 8, 9)], beginnings=cache)
        assert passes == [(1, 67), (1, 67)]
        passes.clear()
        new = [about(engine, "a", 10), about(engine, "b", 11, 12, 13), about(engine, "c", 8, 9), about(engine, "a", 8)]
        groups = prefill(engine.model, new, beginnings=cache)
        assert passes == [(3, 3), (1, 67)], "two clips' questions go on together, the new clip is computed"
        passes.clear()
        for group in groups:
            for one, logits in zip(group.sequences, group.logits, strict=True):
                alone = engine.model(inputs_embeds=one.embeds).logits[0, -1]
                torch.testing.assert_close(logits, alone, atol=1e-4, rtol=0)


def test_several_questions_about_a_new_clip_leave_its_beginning(engine: Engine, passes: list[tuple[int, int]]) -> None:
    cache = BeginningsCache(1 << 20)
    with torch.inference_mode():
        prefill(engine.model, [about(engine, "a", 8, 9), about(engine, "a", 10)], beginnings=cache)
        prefill(engine.model, [about(engine, "a", 11)], beginnings=cache)
    assert passes == [(1, 65), (2, 2), (1, 1)]


def test_other_words_before_a_clip_are_another_beginning(engine: Engine, passes: list[tuple[int, int]]) -> None:
    cache = BeginningsCache(1 << 20)
    other = sequence(engine, 9, 9, 5, 6, 7, *range(20, 80), 8)
    other.account = replace(other.account, spans=(Span("video", 5, 60),), media_keys=("a",))
    unknown = about(engine, "a", 8)
    unknown.account = replace(unknown.account, media_keys=(None,))
    with torch.inference_mode():
        for one in (about(engine, "a", 8), other, unknown):
            prefill(engine.model, [one], beginnings=cache)
    assert passes == [(1, 66)] * 3


def test_the_least_recently_used_beginning_is_dropped() -> None:
    def beginning(positions: int) -> Beginning:
        return Beginning(((torch.zeros(1, 1, positions, 1), torch.zeros(1, 1, positions, 1)),))

    cache = BeginningsCache(3 * beginning(10).nbytes)
    for key in "abc":
        cache.put(key, beginning(10))
    assert cache.get("a") is not None
    cache.put("d", beginning(10))
    assert cache.get("b") is None and cache.get("a") is not None and cache.nbytes == 3 * beginning(10).nbytes
    cache.put("e", beginning(31))
    assert cache.get("e") is None and cache.get("d") is not None and cache.get(None) is None
    cache.put("d", beginning(5))
    assert cache.nbytes == 2 * beginning(10).nbytes + beginning(5).nbytes
