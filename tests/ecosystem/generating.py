"""Generation checks, in place of the generation suite that the source distribution leaves out.

They follow what `transformers.generation` documents: each decoding method returns the prompt and its continuation,
`inputs_embeds` and `input_ids` give the same tokens, caches of every kind give the same tokens, padding on the left
changes nothing, and a cache can be continued.
"""

import copy
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.generation import GenerateBeamDecoderOnlyOutput, GenerateDecoderOnlyOutput

NEW = 4


class GenerationTesterMixin:
    """One test per decoding method and per kind of cache, for every class that can generate."""

    def _each(self) -> Any:
        """(model, inputs) of every class, greedy and without an end token, so that lengths are known."""
        for model_class in self.all_generative_model_classes:
            config, inputs = self.model_tester.prepare_config_and_inputs_for_common()
            torch.manual_seed(0)
            model = model_class(copy.deepcopy(config)).eval()
            with torch.no_grad():
                for parameter in model.model.language_model.parameters():
                    parameter.mul_(12 if parameter.dim() > 1 else 1)  # so that tokens depend on the prompt
            model.generation_config.eos_token_id = None
            model.config.get_text_config().eos_token_id = None
            yield model, inputs

    def _generate(self, model: Any, inputs: dict[str, Any], **options: Any) -> Any:
        asked = {"do_sample": False, "max_new_tokens": NEW, "min_new_tokens": NEW, **options}
        return model.generate(**inputs, **asked)

    def _check_length(self, out: Tensor, inputs: dict[str, Any], rows: int = 1) -> None:
        batch, length = inputs["input_ids"].shape
        self.assertEqual(tuple(out.shape), (batch * rows, length + NEW))
        prompt = inputs["input_ids"].repeat_interleave(rows, 0)
        self.assertTrue(torch.equal(out[:, :length], prompt))

    def test_greedy_generate(self) -> None:
        for model, inputs in self._each():
            self._check_length(self._generate(model, inputs), inputs)

    def test_greedy_generate_dict_outputs(self) -> None:
        for model, inputs in self._each():
            model.set_attn_implementation("eager")
            out = self._generate(
                model, inputs, return_dict_in_generate=True, output_scores=True, output_logits=True,
                output_hidden_states=True, output_attentions=True,
            )  # fmt: skip
            self.assertIsInstance(out, GenerateDecoderOnlyOutput)
            self._check_length(out.sequences, inputs)
            vocabulary = model.config.get_text_config().vocab_size
            for name in ("scores", "logits"):
                self.assertEqual([tuple(s.shape) for s in out[name]], [(len(inputs["input_ids"]), vocabulary)] * NEW)
            layers = model.config.get_text_config().num_hidden_layers
            self.assertEqual([len(h) for h in out.hidden_states], [layers + 1] * NEW)
            self.assertEqual([len(a) for a in out.attentions], [layers] * NEW)
            self.assertEqual(out.attentions[0][0].shape[-1], inputs["input_ids"].shape[1])

    def test_sample_generate(self) -> None:
        for model, inputs in self._each():
            torch.manual_seed(3)
            first = self._generate(model, inputs, do_sample=True, num_return_sequences=2)
            torch.manual_seed(3)
            again = self._generate(model, inputs, do_sample=True, num_return_sequences=2)
            self._check_length(first, inputs, rows=2)
            self.assertTrue(torch.equal(first, again))

    def test_beam_search_generate(self) -> None:
        for model, inputs in self._each():
            self._check_length(self._generate(model, inputs, num_beams=2), inputs)
            out = self._generate(model, inputs, num_beams=3, num_return_sequences=2, return_dict_in_generate=True)
            self.assertIsInstance(out, GenerateBeamDecoderOnlyOutput)
            self._check_length(out.sequences, inputs, rows=2)
            sampled = self._generate(model, inputs, num_beams=2, do_sample=True)
            self._check_length(sampled, inputs)

    def test_generate_without_cache(self) -> None:
        for model, inputs in self._each():
            self.assertTrue(torch.equal(self._generate(model, inputs), self._generate(model, inputs, use_cache=False)))

    def test_prompt_lookup_decoding_matches_greedy_search(self) -> None:
        for model, inputs in self._each():
            alone = {name: value[:1] for name, value in inputs.items()}
            greedy = self._generate(model, alone)
            self.assertTrue(torch.equal(greedy, self._generate(model, alone, prompt_lookup_num_tokens=2)))

    def test_assisted_decoding_matches_greedy_search(self) -> None:
        for model, inputs in self._each():
            alone = {name: value[:1] for name, value in inputs.items()}
            greedy = self._generate(model, alone)
            self.assertTrue(torch.equal(greedy, self._generate(model, alone, assistant_model=model)))

    def test_guidance_scale(self) -> None:
        for model, inputs in self._each():
            self._check_length(self._generate(model, inputs, guidance_scale=1.5), inputs)

    def test_generate_from_inputs_embeds(self) -> None:
        """The tokens that follow embeddings are those that follow the same prompt as ids."""
        for model, inputs in self._each():
            embeds = self._embeds(model, inputs)
            from_ids = self._generate(model, inputs)[:, -NEW:]
            mask = inputs["attention_mask"]
            from_embeds = self._generate(model, {"inputs_embeds": embeds, "attention_mask": mask})
            self.assertTrue(torch.equal(from_ids, from_embeds[:, -NEW:]))
            beams = self._generate(model, {"inputs_embeds": embeds, "attention_mask": mask}, num_beams=2)
            self.assertTrue(torch.equal(self._generate(model, inputs, num_beams=2)[:, -NEW:], beams[:, -NEW:]))

    def _embeds(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        caught: list[Tensor] = []
        hook = model.model.language_model.register_forward_pre_hook(
            lambda module, args, kwargs: caught.append(kwargs["inputs_embeds"]), with_kwargs=True
        )
        with torch.no_grad():
            model(**inputs)
        hook.remove()
        return caught[0]

    def test_generate_from_inputs_embeds_with_static_cache(self) -> None:
        for model, inputs in self._each():
            given = {"inputs_embeds": self._embeds(model, inputs), "attention_mask": inputs["attention_mask"]}
            static = self._generate(model, given, cache_implementation="static")
            self.assertTrue(torch.equal(self._generate(model, given), static))

    def test_generate_with_static_cache(self) -> None:
        for model, inputs in self._each():
            static = self._generate(model, inputs, cache_implementation="static", return_dict_in_generate=True)
            self.assertTrue(torch.equal(self._generate(model, inputs), static.sequences))
            self.assertEqual(static.past_key_values.get_max_length(), inputs["input_ids"].shape[1] + NEW - 1)

    def test_offloaded_and_dynamic_caches(self) -> None:
        for model, inputs in self._each():
            greedy = self._generate(model, inputs)
            given = self._generate(model, inputs, past_key_values=DynamicCache(config=model.config.get_text_config()))
            self.assertTrue(torch.equal(greedy, given))

    def test_generate_continue_from_past_key_values(self) -> None:
        """Two calls, the second with the first one's cache, give what one call gives."""
        for model, inputs in self._each():
            whole = self._generate(model, inputs, return_dict_in_generate=True)
            first = self._generate(model, inputs, max_new_tokens=2, min_new_tokens=2, return_dict_in_generate=True)
            mask = torch.nn.functional.pad(inputs["attention_mask"], (0, 2), value=1)
            rest = {"input_ids": first.sequences, "attention_mask": mask, "past_key_values": first.past_key_values}
            second = self._generate(model, rest, max_new_tokens=2, min_new_tokens=2)
            self.assertTrue(torch.equal(whole.sequences, second))

    def test_left_padding_compatibility(self) -> None:
        for model, inputs in self._each():
            with torch.no_grad():
                plain = model(**inputs).logits[:, -1]
                padded = dict(inputs)
                padded["input_ids"] = torch.nn.functional.pad(inputs["input_ids"], (5, 0), value=0)
                padded["attention_mask"] = torch.nn.functional.pad(inputs["attention_mask"], (5, 0), value=0)
                positions = (padded["attention_mask"].cumsum(1) - 1).clamp(min=0)
                torch.testing.assert_close(
                    model(**padded, position_ids=positions).logits[:, -1], plain, rtol=1e-4, atol=1e-5
                )
            tokens = self._generate(model, inputs)[:, -NEW:]
            self.assertTrue(torch.equal(tokens, self._generate(model, padded)[:, -NEW:]))

    def test_media_are_encoded_once(self) -> None:
        for model, inputs in self._each():
            calls: list[str] = []
            for name in ("vision_encoder", "audio_encoder"):
                part = getattr(model.model, name)
                if part is None:
                    continue
                part.register_forward_hook(lambda *_, name=name, calls=calls: calls.append(name))
            self._generate(model, inputs)
            self.assertEqual(calls.count("audio_encoder"), int("input_features" in inputs))
            self.assertLessEqual(calls.count("vision_encoder"), 2)  # images and videos

    def test_generate_with_new_logits_processors(self) -> None:
        for model, inputs in self._each():
            for options in (
                {"repetition_penalty": 1.3}, {"no_repeat_ngram_size": 2}, {"bad_words_ids": [[5], [6, 7]]},
                {"sequence_bias": [[[5], -2.0]]}, {"suppress_tokens": [3]}, {"min_p": 0.1, "do_sample": True},
                {"exponential_decay_length_penalty": (2, 1.1), "eos_token_id": 2}, {"encoder_repetition_penalty": 1.1},
            ):  # fmt: skip
                with self.subTest(**options):
                    self._check_length(self._generate(model, inputs, **options), inputs)

    def test_generate_methods_with_logits_to_keep(self) -> None:
        for model, inputs in self._each():
            with torch.no_grad():
                whole = model(**inputs).logits
                last = model(**inputs, logits_to_keep=2).logits
            torch.testing.assert_close(last, whole[:, -2:], rtol=1e-4, atol=1e-5)

    def test_custom_stopping_criteria(self) -> None:
        for model, inputs in self._each():
            calls: list[int] = []

            def stop(ids: Tensor, scores: Any, calls: list[int] = calls, **_: Any) -> Tensor:
                calls.append(ids.shape[1])
                return torch.ones(len(ids), dtype=torch.bool)

            out = model.generate(**inputs, do_sample=False, max_new_tokens=NEW, stopping_criteria=[stop])
            self.assertEqual(out.shape[1], inputs["input_ids"].shape[1] + 1)

    def test_generate_compilation_all_outputs(self) -> None:
        """A decoding step over a static cache compiles without a graph break, and gives the same tokens."""
        for model, inputs in self._each():
            greedy = self._generate(model, inputs)
            torch.compiler.reset()
            model.forward = torch.compile(model.forward, fullgraph=False, backend="eager")
            static = self._generate(model, inputs, cache_implementation="static")
            self.assertTrue(torch.equal(greedy, static))
