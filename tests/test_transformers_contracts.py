"""What transformers and PEFT expect of a model with media: decoding methods, outputs, labels, prompts of embeddings."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, DynamicCache, Trainer, TrainingArguments

from videollama2.errors import UsageError
from videollama2.outputs import CACHE

from . import tiny
from .test_layers_are_called import media

# renamed in transformers; PEFT and older callers still use the old names
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.* is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Position ids are not supported:UserWarning"),  # PEFT's, about its prompts
]
GREEDY = {"max_new_tokens": 5, "do_sample": False}


@pytest.fixture(scope="module")
def model() -> Any:
    # a vocabulary that no other table shares: PEFT takes the first weight of that height for the token embedding
    sizes = {**tiny.config().text_config.to_dict(), "vocab_size": 333}
    return tiny.model(text_config=sizes)


@pytest.fixture(scope="module")
def inputs(model: Any) -> dict[str, Tensor]:
    given = media(model)
    return {**given, "attention_mask": torch.ones_like(given["input_ids"])}


@pytest.mark.parametrize(
    "options",
    [
        {"prompt_lookup_num_tokens": 3},
        {"cache_implementation": "static"},
        {"prefill_chunk_size": 7},
        {"use_cache": False},
    ],
    ids=lambda options: next(iter(options)),
)
def test_a_decoding_method_gives_the_greedy_tokens(model: Any, inputs: Any, options: dict[str, Any]) -> None:
    greedy = model.generate(**inputs, **GREEDY)
    assert torch.equal(model.generate(**inputs, **GREEDY, **options), greedy)


@pytest.mark.filterwarnings("ignore")
def test_an_assistant_gives_the_greedy_tokens(model: Any, inputs: Any) -> None:
    assistant = copy.deepcopy(model)
    assert torch.equal(
        model.generate(**inputs, **GREEDY, assistant_model=assistant), model.generate(**inputs, **GREEDY)
    )


def test_an_assistant_of_text_alone_is_refused(model: Any, inputs: Any) -> None:
    assistant = AutoModelForCausalLM.from_config(model.config.text_config)
    with pytest.raises(UsageError, match="qwen2 model, which can't read the placeholders"):
        model.generate(**inputs, **GREEDY, assistant_model=assistant)


def test_embeddings_of_a_prompt_keep_its_placeholders(model: Any, inputs: Any) -> None:
    length = inputs["input_ids"].shape[1]
    embedded = {k: v for k, v in inputs.items() if k != "input_ids"}
    embedded["inputs_embeds"] = model.get_input_embeddings()(inputs["input_ids"])
    with torch.no_grad():
        assert torch.equal(model(**embedded).logits, model(**inputs).logits)
    assert torch.equal(model.generate(**embedded, **GREEDY), model.generate(**inputs, **GREEDY)[:, length:])
    with torch.no_grad():  # a placeholder without its media is never a guess
        assert model(inputs_embeds=embedded["inputs_embeds"]).logits.isnan().any()


@pytest.mark.parametrize("method", ["PromptTuningConfig", "PromptEncoderConfig", "PrefixTuningConfig"])
def test_peft_prompts_train_with_media(model: Any, inputs: Any, method: str) -> None:
    peft = pytest.importorskip("peft")
    config = getattr(peft, method)(task_type="CAUSAL_LM", num_virtual_tokens=3)
    tuned = peft.get_peft_model(copy.deepcopy(model), config).train()
    tuned(**inputs, labels=inputs["input_ids"].clone()).loss.backward()
    learned = [p for p in tuned.parameters() if p.requires_grad]
    assert learned
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.abs().sum() > 0 for p in learned)
    out = tuned.eval().generate(**inputs, **GREEDY)
    assert out.shape[1] == inputs["input_ids"].shape[1] + 5


@pytest.mark.parametrize("vocabulary", [320, 24, 16])  # as long as a table of BEATs, layers of CLIP, biases of both
def test_peft_finds_the_token_embedding_whatever_its_length(vocabulary: int) -> None:
    peft = pytest.importorskip("peft")
    model = tiny.model(text_config={**tiny.config().text_config.to_dict(), "vocab_size": vocabulary})
    tuned = peft.get_peft_model(model, peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3))
    assert tuned.word_embeddings is model.get_input_embeddings()
    ids = torch.randint(3, vocabulary, (1, 6), generator=torch.Generator().manual_seed(1))
    virtual = tuned.get_prompt(1).to(torch.float32)
    whole = torch.cat([virtual, model.get_input_embeddings()(ids)], 1)
    with torch.no_grad():
        found = tuned(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
        torch.testing.assert_close(found, model(inputs_embeds=whole).logits)


def test_labels_may_be_the_prompt(model: Any, inputs: Any) -> None:
    """Placeholders among them are not targets; logits can be spared; shifted labels replace unshifted ones."""
    learner = copy.deepcopy(model).train()
    ids = inputs["input_ids"]
    masked = torch.where(torch.isin(ids, torch.tensor(list(model.config.placeholder_ids.values()))), -100, ids)
    whole, spared = learner(**inputs, labels=ids.clone()), learner(**inputs, labels=masked, skip_logits=True)
    torch.testing.assert_close(whole.loss, spared.loss, rtol=1e-4, atol=1e-4)
    assert whole.logits.shape == (*ids.shape, 333)
    assert spared.logits is None
    shifted = torch.nn.functional.pad(masked[:, 1:], (0, 1), value=-100)
    torch.testing.assert_close(
        learner(**inputs, labels=ids * 0, shift_labels=shifted).loss, whole.loss, rtol=1e-4, atol=1e-4
    )
    summed = learner(**inputs, labels=masked, num_items_in_batch=1).loss
    torch.testing.assert_close(summed / (shifted != -100).sum(), whole.loss, rtol=1e-4, atol=1e-4)


def test_eager_attention_reaches_every_part(model: Any, inputs: Any) -> None:
    eager = copy.deepcopy(model)
    eager.set_attn_implementation("eager")
    for part in (eager.model.audio_encoder, eager.model.vision_encoder, eager.model.language_model):
        assert part.config._attn_implementation == "eager"
    out = eager.get_audio_features(inputs["input_features"], output_attentions=True, output_hidden_states=True)
    assert len(out.attentions) == 2
    assert len(out.hidden_states) == 3
    torch.testing.assert_close(out.attentions[0].sum(-1), torch.ones(out.attentions[0].shape[:-1]))
    torch.testing.assert_close(out.hidden_states[-1], out.last_hidden_state)


def test_added_tokens_do_not_collide_with_placeholders(model: Any) -> None:
    grown = copy.deepcopy(model)
    grown.resize_token_embeddings(340)
    assert grown.config.placeholder_ids == {"image": 340, "video": 341, "audio": 342}
    with torch.no_grad():
        assert not grown(torch.tensor([[5, 333, 334, 339]])).logits.isnan().any()
        assert torch.equal(grown(**media(grown)).logits[..., :333].argmax(-1), model(**media(model)).logits.argmax(-1))


def test_outputs_as_tuples(model: Any, inputs: Any) -> None:
    assert isinstance(model(**inputs, return_dict=False), tuple)
    for name, kind in (("pixel_values", "image"), ("pixel_values_videos", "video"), ("input_features", "audio")):
        get = getattr(model, f"get_{kind}_features")
        assert isinstance(get(inputs[name], return_dict=False), tuple)
        assert torch.equal(get(inputs[name])["pooler_output"][0], get(inputs[name], return_dict=False)[1][0])


@pytest.mark.filterwarnings("ignore:.past_key_values. is deprecated:FutureWarning")
def test_a_cache_by_both_of_its_names(model: Any, inputs: Any) -> None:
    """transformers 5.24 renamed past_key_values to cache; code written for either works with any version."""
    with torch.no_grad():
        logits = []
        for name in ("past_key_values", "cache"):
            out = model(**inputs, use_cache=True)
            assert out[CACHE] is not None
            step = {"input_ids": torch.tensor([[5]]), name: out[CACHE]}
            logits.append(model(**step).logits)
            trunk = model.model(**{**step, name: model(**inputs, use_cache=True)[CACHE]})
            torch.testing.assert_close(model.lm_head(trunk.last_hidden_state), logits[-1], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(logits[0], logits[1], rtol=0, atol=0)
    with pytest.raises(UsageError, match="two names of one argument"):
        model(input_ids=torch.tensor([[5]]), past_key_values=DynamicCache(), cache=DynamicCache())


def test_what_the_encoders_returned_is_an_output(model: Any, inputs: Any) -> None:
    with torch.no_grad():
        out = model(**inputs)
        tokens = model.get_video_features(inputs["pixel_values_videos"]).pooler_output
        assert torch.equal(out.video_outputs.pooler_output[0], tokens[0])
        assert out.image_outputs is not None and out.audio_outputs is not None
        assert model(input_ids=torch.tensor([[5]])).video_outputs is None
        again = model(input_ids=inputs["input_ids"], mm_encoder_outputs={
            "image": out.image_outputs, "video": out.video_outputs, "audio": out.audio_outputs,
        })  # fmt: skip
    assert torch.equal(again.logits, out.logits)


def test_a_trainer_evaluates_and_predicts(model: Any, inputs: Any, tmp_path: Path) -> None:
    """What a Trainer gathers in evaluation are the logits alone."""
    ids = inputs["input_ids"]
    one = {name: value[0] for name, value in inputs.items()} | {"labels": ids[0]}
    args = TrainingArguments(output_dir=str(tmp_path), report_to=[], use_cpu=True, per_device_eval_batch_size=2)
    found = Trainer(copy.deepcopy(model), args, eval_dataset=[one, one, one]).predict([one, one, one])
    assert found.predictions.shape == (3, ids.shape[1], 333)
    assert np.isfinite(found.metrics["test_loss"])


def test_placeholders_inside_the_vocabulary_are_never_generated() -> None:
    """Without a cache each step reads the answer again, where a placeholder would ask for media of its own."""
    made = tiny.model(image_token_id=3, video_token_id=4, audio_token_id=5, audio_config=None)
    ids = torch.tensor([[7, 8, 5, 9]])  # the model has no audio encoder: 5 is a word
    assert made(ids).logits.isfinite().all()
    with torch.no_grad():
        made.lm_head.weight.zero_()  # all tokens are equally likely, and the first is taken
    out = made.generate(ids, max_new_tokens=6, do_sample=False, suppress_tokens=[0, 1, 2, 6], use_cache=False)
    assert out[0, 4:].tolist() == [7] * 6


def test_every_part_recomputes_when_checkpointing(model: Any, inputs: Any) -> None:
    learner = copy.deepcopy(model).train()
    learner.model.audio_encoder.config.encoder_layerdrop = 0.0
    learner(**inputs, labels=inputs["input_ids"]).loss.backward()
    expected = {n: p.grad.clone() for n, p in learner.named_parameters() if p.grad is not None}
    learner.zero_grad()
    learner.gradient_checkpointing_enable()
    on = {type(m).__name__ for m in learner.modules() if getattr(m, "gradient_checkpointing", False)}
    assert {"Bottleneck", "BeatsLayer", "CLIPEncoderLayer", "Qwen2DecoderLayer"} <= on
    learner(**inputs, labels=inputs["input_ids"], use_cache=False).loss.backward()
    for name, gradient in expected.items():
        torch.testing.assert_close(learner.get_parameter(name).grad, gradient, rtol=1e-4, atol=1e-4)
