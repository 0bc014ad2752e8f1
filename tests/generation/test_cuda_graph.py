"""Steps at fixed addresses give what growing caches give. The recording itself needs a GPU; its steps do not."""

import pytest
import torch
from transformers import DynamicCache

from videollama2.generation import cuda_graph, steps
from videollama2.generation.batch import generate
from videollama2.generation.sampling import GenerateOptions

from ..tiny import model

MASKS = {"alone": [[1] * 9], "batch": [[1] * 9] * 2, "left-padded": [[0, 0, 0, 1, 1, 1, 1, 1, 1], [1] * 9]}


@pytest.mark.parametrize("rows", MASKS.values(), ids=MASKS)
@pytest.mark.parametrize("room", [3, 100])
def test_same_tokens_and_cache(monkeypatch: pytest.MonkeyPatch, rows: list[list[int]], room: int) -> None:
    made = model()
    mask = torch.tensor(rows)
    embeds = 0.3 * torch.randn(len(rows), 9, made.config.text_config.hidden_size)
    options = GenerateOptions(max_new_tokens=30).with_defaults(None)

    def run() -> tuple[torch.Tensor, DynamicCache]:
        cache = DynamicCache(config=made.config.text_config)
        prompts = [row[keep.bool()] for row, keep in zip(embeds, mask, strict=True)]
        return torch.tensor(generate(made, prompts, options, [], cache)), cache

    expected, grown = run()
    calls = []

    def without_recording(
        model: object, cache: DynamicCache, mask: torch.Tensor, at: torch.Tensor, count: int
    ) -> object:
        calls.append(cuda_graph.FixedStep(model, cache, mask, at, min(count, room)))
        return calls[-1]

    monkeypatch.setattr(steps, "record", without_recording)
    found, fixed = run()
    assert calls, "no step ran at fixed addresses"
    assert torch.equal(found, expected)
    assert fixed.get_seq_length() == grown.get_seq_length() == 9 + 29
    for ours, theirs in zip(fixed.layers, grown.layers, strict=True):
        real = torch.nn.functional.pad(mask, (0, 29), value=1).bool()[:, None, :, None]
        torch.testing.assert_close(ours.keys * real, theirs.keys * real)
        torch.testing.assert_close(ours.values * real, theirs.values * real)


def test_a_cache_handed_back_can_be_continued() -> None:
    made = model()
    embeds = 0.3 * torch.randn(1, 9, made.config.text_config.hidden_size)
    cache = DynamicCache(config=made.config.text_config)
    with torch.inference_mode():
        made(inputs_embeds=embeds, past_key_values=cache, use_cache=True)
        step = cuda_graph.FixedStep(made, cache, torch.ones(1, 9, dtype=torch.long), torch.tensor([[9]]), 4)
        step(torch.tensor([5]))
        step.close()
        cache.crop(-1)
        assert cache.get_seq_length() == 9
        again = made(input_ids=torch.tensor([[5]]), past_key_values=cache, use_cache=True).logits
        whole = torch.cat([embeds, made.get_input_embeddings()(torch.tensor([[5]]))], 1)
        torch.testing.assert_close(again[:, -1], made(inputs_embeds=whole).logits[:, -1], rtol=1e-4, atol=1e-4)


if torch.cuda.is_available():  # not skipped elsewhere: it isn't there

    @pytest.mark.parametrize("rows", MASKS.values(), ids=MASKS)
    def test_recorded_on_a_gpu(monkeypatch: pytest.MonkeyPatch, rows: list[list[int]]) -> None:
        made = model().cuda()
        mask = torch.tensor(rows).cuda()
        embeds = (0.3 * torch.randn(len(rows), 9, made.config.text_config.hidden_size)).cuda()
        options = GenerateOptions(max_new_tokens=40).with_defaults(None)
        recorded = []
        real = cuda_graph.record

        def counting(*given: object) -> object:
            recorded.append(real(*given))
            return recorded[-1]

        monkeypatch.setattr(steps, "record", counting)
        prompts = [row[keep.bool()] for row, keep in zip(embeds, mask, strict=True)]
        found = generate(made, prompts, options, [])
        assert recorded and all(recorded)
        monkeypatch.setattr(steps, "record", lambda *_: None)
        assert found == generate(made, prompts, options, [])
