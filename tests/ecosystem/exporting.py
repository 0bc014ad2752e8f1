"""`torch.export` and `torch.compile` of a model's parts, in place of the exporters' suite that the source distribution
leaves out.

Each part is exported, run, and compared with the module that it came from.
"""

import copy
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from transformers import StaticCache

MEDIA = (
    ("get_image_features", "pixel_values"),
    ("get_video_features", "pixel_values_videos"),
    ("get_audio_features", "input_features"),
)


class _Features(nn.Module):
    """One media encoder with its connector or projector, as tokens [items, n, D]."""

    def __init__(self, model: Any, name: str) -> None:
        super().__init__()
        self.model, self.name = model, name

    def forward(self, media: Tensor) -> Tensor:
        return torch.stack(list(getattr(self.model, self.name)(media).pooler_output))


class _Prefill(nn.Module):
    """A whole prompt with its media, as logits [B, L, V]."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, **inputs: Tensor) -> Tensor:
        return self.model(**inputs, use_cache=False).logits


class ExportTesterMixin:
    """Vision, audio, prefill and a decoding step can be exported or compiled without a graph break."""

    def _models(self) -> Any:
        for model_class in self.all_generative_model_classes:
            config, inputs = self.model_tester.prepare_config_and_inputs_for_common()
            torch.manual_seed(0)
            yield model_class(config).eval(), inputs

    def _check_export(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None) -> None:
        with torch.no_grad():
            exported = torch.export.export(module, args, kwargs or {}, strict=False).module()
            expected, found = module(*args, **(kwargs or {})), exported(*args, **(kwargs or {}))
        for one, other in zip(tree_leaves(expected), tree_leaves(found), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)

    def test_media_features_export(self) -> None:
        for model, inputs in self._models():
            for name, media in MEDIA:
                if media not in inputs:
                    continue
                with self.subTest(name):
                    self._check_export(_Features(model, name), (inputs[media],))

    def test_prefill_exports(self) -> None:
        for model, inputs in self._models():
            self._check_export(_Prefill(model), (), dict(inputs))

    def test_decoding_step_compiles_without_a_graph_break(self) -> None:
        for model, inputs in self._models():
            ids = inputs["input_ids"]
            new = {"input_ids": torch.full((len(ids), 1), 7), "position_ids": torch.full((len(ids), 1), ids.shape[1])}
            logits = []
            for run in (model.forward, torch.compile(model.forward, fullgraph=True, backend="eager")):
                cache = StaticCache(config=model.config.get_text_config(), max_cache_len=ids.shape[1] + 4)
                with torch.no_grad():
                    model(**inputs, past_key_values=cache, use_cache=True)
                    logits.append(run(**new, past_key_values=cache, use_cache=True).logits)
            torch.testing.assert_close(logits[0], logits[1], rtol=1e-4, atol=1e-5)

    def test_a_cached_step_exports_by_transformers_exporter(self) -> None:
        """Prefill with its media and one more token over the cache, by the exporter that transformers ships."""
        if find_spec("transformers.exporters") is None:
            self.skipTest("this transformers has no exporters")
        from transformers.exporters.exporter_dynamo import DynamoConfig, DynamoExporter

        for model, inputs in self._models():
            with torch.no_grad():
                cache = model(**inputs, use_cache=True).past_key_values
            ids = inputs["input_ids"]
            mask = torch.nn.functional.pad(inputs["attention_mask"], (0, 1), value=1)
            step = {"input_ids": torch.full((len(ids), 1), 7), "attention_mask": mask, "past_key_values": cache}
            for name, given in (("prefill", dict(inputs)), ("decode", step)):
                with self.subTest(name), torch.no_grad():
                    expected = model(**copy.deepcopy(given)).logits
                    exported = DynamoExporter().export(model, copy.deepcopy(given), config=DynamoConfig())
                    if isinstance(exported, torch.export.ExportedProgram):  # of transformers before 5.20
                        exported = exported.module()
                    found = exported(**copy.deepcopy(given))
                    torch.testing.assert_close(found.logits, expected, rtol=1e-4, atol=1e-5)
