"""A phase trains exactly the parts that it names."""

import pytest
import torch

from videollama2.errors import UsageError
from videollama2.phases import PARTS, PHASES, Phase, part_of
from videollama2.train.adapters import add_lora
from videollama2.train.loop import build_optimizer
from videollama2.train.settings import Settings

from .. import tiny
from .small import av_inputs, small_model


@pytest.mark.parametrize("name", list(PHASES))
def test_one_step_moves_exactly_the_parts_that_learn(name: str) -> None:
    model = small_model()
    phase = PHASES[name].but(learning_rate=1e-2)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    optimizer = build_optimizer(phase, phase.apply(model))
    model.train()
    model(**av_inputs(model)).loss.backward()
    optimizer.step()
    moved = {part_of(n) for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert moved == set(phase.learns) & {part_of(n) for n in before}
    assert "vision_encoder" not in moved


def test_adapters_learn_in_place_of_the_language_model() -> None:
    model = small_model()
    assert len(add_lora(model, Settings(lora_rank=2))) == 7
    learning = PHASES["av_joint"].apply(model)
    learns = {n for n, p in model.named_parameters() if p.requires_grad and part_of(n) == "language_model"}
    assert learns and all("lora_" in n for n in learns)
    assert len(learning["language_model"]) == len(learns)


def test_the_head_of_an_adapted_language_model_stays_as_it_is() -> None:
    model = tiny.model()  # one whose head is not tied to the embedding
    assert "lm_head" in PHASES["av_joint"].apply(model)
    add_lora(model, Settings(lora_rank=2))
    assert PHASES["av_joint"].apply(model).keys() == PHASES["av_joint"].learns - {"lm_head"}


def test_the_log_says_what_learns_and_what_is_frozen(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="videollama2"):
        PHASES["audio_align"].apply(small_model())
    lines = [r.getMessage() for r in caplog.records]
    assert sum("learns" in line for line in lines) == 1 and "audio_projector" in next(x for x in lines if "learns" in x)
    assert sum("frozen" in line for line in lines) == 4


def test_unknown_parts_are_refused() -> None:
    with pytest.raises(UsageError, match="mm_projector"):
        Phase(name="x", learns=frozenset({"mm_projector"}), mixture={}, learning_rate=1.0, batch=1)
    with pytest.raises(UsageError, match="belongs to no part"):
        part_of("model.mm_projector.weight")


def test_a_phase_for_a_part_that_the_model_lacks_is_refused() -> None:
    model = small_model(deaf=True)
    with pytest.raises(UsageError, match="audio_projector"):
        PHASES["audio_align"].apply(model)


def test_published_numbers() -> None:
    rates = {name: (p.learning_rate, p.batch, p.epochs) for name, p in PHASES.items()}
    assert rates == {
        "video_align": (1e-3, 256, 1),
        "video_tune": (2e-5, 128, 1),
        "audio_align": (1e-3, 1024, 1),
        "audio_tune": (2e-5, 128, 2),
        "av_joint": (2e-5, 128, 2),
    }
    assert all(p.learns <= set(PARTS) for p in PHASES.values())
