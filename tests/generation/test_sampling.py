"""Choosing tokens: options, and equality with transformers' own generate."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    LogitsProcessorList,
    PreTrainedTokenizerFast,
    RepetitionPenaltyLogitsProcessor,
    TopPLogitsWarper,
)

from videollama2 import Engine, GenerateOptions
from videollama2.errors import NumericsError, UsageError
from videollama2.generation import sampling
from videollama2.generation.batch import generate
from videollama2.generation.output import Detokenizer
from videollama2.generation.sampling import Nucleus
from videollama2.text.tokenization import TokenBytes

from .. import tiny

Q = "what do you see and hear?"


def run(model: Any, embeds: torch.Tensor, **options: Any) -> list[int]:
    chosen = GenerateOptions(**options).with_defaults(model.generation_config)
    return generate(model, embeds, chosen, [2])[0]


@pytest.fixture
def embeds(engine: Engine, media: Path) -> torch.Tensor:
    """Of a prompt with a clip and its sound."""
    from videollama2 import Request

    request = Request(media=media / "clip.mp4", question=Q)
    encoded = engine.prepare(request.media_items())
    return engine.embed(request.conversation(encoded.modalities), encoded).embeds.clone()


def test_greedy_search_is_transformers(engine: Engine, embeds: torch.Tensor) -> None:
    theirs = engine.model.generate(
        inputs_embeds=embeds, attention_mask=torch.ones(embeds.shape[:2]), max_new_tokens=40, do_sample=False
    )
    assert run(engine.model, embeds, max_new_tokens=40) == theirs[0].tolist()


@pytest.mark.filterwarnings("ignore:Passing `repetition_penalty` with `inputs_embeds`")  # it is what we want
@pytest.mark.parametrize("penalty", [1.3, 0.8])
def test_repetition_penalty_counts_new_tokens_only(engine: Engine, embeds: torch.Tensor, penalty: float) -> None:
    """As transformers does when the prompt enters as embeddings, which is how the public implementation calls it."""
    theirs = engine.model.generate(
        inputs_embeds=embeds, attention_mask=torch.ones(embeds.shape[:2]), max_new_tokens=40, do_sample=False,
        repetition_penalty=penalty,
    )  # fmt: skip
    ours = run(engine.model, embeds, max_new_tokens=40, repetition_penalty=penalty)
    assert ours == theirs[0].tolist() != run(engine.model, embeds, max_new_tokens=40)


def test_a_checkpoints_own_settings_hold_unless_the_caller_says_otherwise(
    engine: Engine, embeds: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, penalised = (run(engine.model, embeds, max_new_tokens=30, repetition_penalty=p) for p in (1.0, 1.5))
    monkeypatch.setattr(engine.model.generation_config, "repetition_penalty", 1.5)
    assert run(engine.model, embeds, max_new_tokens=30) == penalised != plain
    assert run(engine.model, embeds, max_new_tokens=30, repetition_penalty=1.0) == plain


def test_sampling_repeats_with_a_seed(engine: Engine, embeds: torch.Tensor) -> None:
    draws = [run(engine.model, embeds, max_new_tokens=24, temperature=1.5, seed=seed) for seed in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]
    torch.manual_seed(3)
    free = [run(engine.model, embeds, max_new_tokens=24, temperature=1.5) for _ in range(2)]
    assert free[0] != free[1]


def test_narrow_sampling_is_greedy(engine: Engine, embeds: torch.Tensor) -> None:
    greedy = run(engine.model, embeds, max_new_tokens=20)
    assert run(engine.model, embeds, max_new_tokens=20, temperature=2, top_k=1) == greedy
    assert run(engine.model, embeds, max_new_tokens=20, temperature=2, top_p=1e-6) == greedy
    assert run(engine.model, embeds, max_new_tokens=20, temperature=1e-3) == greedy


def test_samples_follow_the_models_probabilities(engine: Engine, embeds: torch.Tensor) -> None:
    """Against the softmax of the model's logits, at 2,000 draws of one token after three positions."""
    many = embeds.expand(2000, -1, -1)[:, -3:]
    with torch.inference_mode():
        expected = (engine.model(inputs_embeds=many[:1]).logits[0, -1].double() / 1.5).softmax(-1)
    options = GenerateOptions(max_new_tokens=1, temperature=1.5, top_p=None, top_k=0).with_defaults(None)
    torch.manual_seed(0)
    drawn = torch.tensor(generate(engine.model, many, options, [2]))[:, 0]
    found = torch.bincount(drawn, minlength=len(expected)).double() / len(drawn)
    likely = expected.topk(5).indices
    assert torch.allclose(found[likely], expected[likely], atol=0.04)


def test_numbers_that_are_none_are_an_error(engine: Engine, embeds: torch.Tensor) -> None:
    for bad in (float("nan"), float("inf")):
        with pytest.raises(NumericsError, match="bfloat16"):
            run(engine.model, embeds * bad, max_new_tokens=2)


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_new_tokens": 0}, {"max_new_tokens": -5}, {"max_new_tokens": 2.5}, {"max_new_tokens": "5"},
        {"max_new_tokens": None}, {"max_new_tokens": True},
        {"temperature": -1}, {"temperature": float("nan")}, {"temperature": float("inf")}, {"temperature": 1e-300},
        {"temperature": "hot"}, {"temperature": None},
        {"top_p": 0}, {"top_p": 1.1}, {"top_p": float("nan")}, {"top_p": -1},
        {"top_k": -1}, {"top_k": 2.0}, {"repetition_penalty": 0}, {"repetition_penalty": float("inf")},
        {"seed": -1}, {"seed": 2**64}, {"seed": 1.0},
    ],
)  # fmt: skip
def test_impossible_options(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=f"{next(iter(wrong))} is .*; expected"):
        GenerateOptions(**wrong)


def test_whole_numbers_are_numbers(engine: Engine, embeds: torch.Tensor) -> None:
    assert len(run(engine.model, embeds, max_new_tokens=2, temperature=1, top_p=1, top_k=5, seed=0)) == 2
    assert run(engine.model, embeds, max_new_tokens=2, repetition_penalty=1)


def test_ids_become_text_in_pieces_without_half_characters(engine: Engine) -> None:
    """Random ids of a byte-level vocabulary are mostly broken characters, the worst case."""
    generator = torch.Generator().manual_seed(4)
    for text in ("héllo wörld ✓ 一二三 👩‍👩‍👧 x", " spaces   and\nlines \n\n", "\U0001f600" * 5):
        ids = engine.processor.tokenizer.encode(text)
        assert pieces(engine, ids) == text.strip()
        made = Detokenizer(engine.processor.decode)
        assert not any("\ufffd" in made.push(token) for token in ids)
    for length in (1, 3, 40, 40, 40, 40, 200):
        ids = torch.randint(0, 320, (length,), generator=generator).tolist()
        text = engine.processor.decode(ids).strip()
        while text.endswith("\ufffd"):  # half a character at the end is left out
            text = text.removesuffix("\ufffd").strip()
        assert pieces(engine, ids) == text


def pieces(engine: Engine, ids: list[int]) -> str:
    return joined(Detokenizer(engine.processor.decode), ids)


def joined(made: Detokenizer, ids: list[int]) -> str:
    """The pieces joined, of which none ends in half a character."""
    parts = [*(made.push(token) for token in ids), made.flush()]
    assert "".join(parts) == made.text and not any(part.endswith("\ufffd") for part in parts)
    return made.text


SAID = "a ✓ b 一二 😀👩‍👧 é!"


@pytest.mark.parametrize("kind", ["byte level", "byte fallback"])
def test_half_a_character_is_never_sent(engine: Engine, kind: str) -> None:
    """Cut anywhere, by a limit or before a stop text, an answer has whole characters only."""
    decode, encode = engine.processor.decode, engine.processor.tokenizer.encode
    if kind == "byte fallback":
        fallback = byte_fallback_tokenizer()
        decode, encode = fallback.decode, fallback.encode
    ids = encode(SAID)
    assert len(ids) > len(SAID)  # some characters take several tokens
    assert joined(Detokenizer(decode), ids) == SAID
    for end in range(len(ids) + 1):
        assert SAID.startswith(joined(Detokenizer(decode), ids[:end]))
        assert SAID.startswith(joined(Detokenizer(decode, ["STOP"]), [*ids[:end], *encode("STOP"), *ids]))


def byte_fallback_tokenizer() -> Any:
    """As SentencePiece's of Llama and Mistral: characters that are not in the vocabulary are bytes, <0xE2>."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    pieces = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), *"abSTOP!", "▁"]
    backend = Tokenizer(
        models.BPE({p: i for i, p in enumerate(pieces)}, [], unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never", split=False)
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>")


def test_bytes_of_tokens(engine: Engine) -> None:
    for tokenizer in (engine.processor.tokenizer, byte_fallback_tokenizer()):
        of = TokenBytes(tokenizer)
        assert b"".join(map(of, tokenizer.encode(SAID))) == SAID.encode()
    assert TokenBytes(engine.processor.tokenizer)(2) == b"<|im_end|>" and of(10**6) == b""


def test_the_penalty_is_transformers_own() -> None:
    """The oracle of the test above, by hand: positive scores are divided, negative ones multiplied."""
    scores = torch.tensor([[2.0, -2.0, 1.0]])
    out = LogitsProcessorList([RepetitionPenaltyLogitsProcessor(2.0)])(torch.tensor([[0, 1]]), scores)
    assert out.tolist() == [[1.0, -4.0, 1.0]]


def test_generate_on_token_ids_and_media_equals_the_engine(engine: Engine, media: Path) -> None:
    batch = engine.processor(Q, videos=media / "clip.mp4")
    out = engine.model.generate(**batch, max_new_tokens=20, do_sample=False)
    new = out[0, batch["input_ids"].shape[1] :]
    text = engine.answer(media / "clip.mp4", Q, max_new_tokens=20).text
    assert engine.processor.decode(new).strip().rstrip("\ufffd") == text  # half a character at the end is left out


def test_float16_and_bfloat16_answer(media: Path) -> None:
    from videollama2.device import Placement

    for dtype in (torch.bfloat16, torch.float16):
        made = tiny.model().to(dtype)
        half = Engine(
            made, tiny.processor(made.config), name="half", placement=Placement(torch.device("cpu"), dtype, "a test")
        )
        answer = half.answer(media / "clip.mp4", Q, max_new_tokens=2)
        assert answer.receipt.dtype == str(dtype).removeprefix("torch.")


def distributions() -> list[tuple[str, torch.Tensor]]:
    """Scores [V] of every shape: peaked, flat, with ties, with forbidden tokens, with an edge that rounding decides."""
    draw = torch.Generator().manual_seed(7)
    found = [(f"width {width}", torch.randn(5000, generator=draw) * width) for width in (0.0, 0.05, 0.5, 1, 2, 3, 10)]
    found += [(f"{name}, rounded", scores.bfloat16().float()) for name, scores in found]
    forbidden = torch.randn(5000, generator=draw) * 3
    forbidden[torch.rand(5000, generator=draw) < 0.99] = -torch.inf
    edge = torch.full((5000,), -torch.inf)
    edge[:4] = torch.tensor([0.4, 0.3, 0.2, 0.1]).log()  # after three, the sum is 0.9 up to rounding
    even = torch.full((5000,), -torch.inf)
    even[10:20] = 0.0
    return [*found, ("forbidden", forbidden), ("edge", edge), ("even", even), ("small", forbidden[:300])]


@pytest.mark.parametrize("top_p", [1e-6, 0.1, 0.5, 0.7, 0.9, 0.999, 1.0])
def test_top_p_is_transformers_to_the_bit(top_p: float) -> None:
    nothing = torch.zeros(1, 0, dtype=torch.long)
    for name, scores in distributions():
        theirs = TopPLogitsWarper(top_p)(nothing, scores[None])
        assert torch.equal(Nucleus(top_p)(nothing, scores[None]), theirs), name
    several = torch.stack([scores for _, scores in distributions() if len(scores) == 5000])
    assert torch.equal(Nucleus(top_p)(nothing, several), TopPLogitsWarper(top_p)(nothing, several))


def test_a_seed_draws_the_same_tokens_without_sorting(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = torch.randn(5000, generator=torch.Generator().manual_seed(3)) * 3
    options = GenerateOptions(temperature=0.8, top_p=0.9, seed=11).with_defaults(None)

    def draws() -> list[int]:
        sampler = sampling.Sampler(options, scores.device)
        return [sampler.choose(scores.roll(i), []) for i in range(40)]

    with monkeypatch.context() as patch:
        patch.setattr(sampling, "LIKELIEST", 10**9)
        expected = draws()
    monkeypatch.setattr(torch, "sort", None)  # not called
    assert draws() == expected
