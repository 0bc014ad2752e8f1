"""The built-in descriptions: sizes of the released models, and names that find them."""

import pytest
import torch

from videollama2.errors import CheckpointNotFound
from videollama2.modeling import VideoLlama2ForConditionalGeneration
from videollama2.weights import catalog


@pytest.mark.parametrize("release", catalog.RELEASES, ids=lambda r: r.short_name)
def test_every_spelling_finds_the_release(release: catalog.Release) -> None:
    for name in (release.hub_id, release.name, release.short_name, release.short_name.upper(), release.hub_id + "/"):
        assert catalog.find(name) is release


def test_short_names_without_a_generation_mean_the_first() -> None:
    assert catalog.find("7b-16f").name == "VideoLLaMA2-7B-16F"
    assert catalog.find("72b").name == "VideoLLaMA2-72B"
    assert catalog.find("8x7b-base").name == "VideoLLaMA2-8x7B-Base"


def test_aliases_are_unambiguous() -> None:
    aliases = [alias for release in catalog.RELEASES for alias in release.aliases]
    assert len(aliases) == len(set(aliases))
    assert len(catalog.RELEASES) == 11


def test_an_unknown_name_names_the_nearest() -> None:
    with pytest.raises(CheckpointNotFound, match=r"did you mean '2\.1-7b-av'"):
        catalog.find("2.1-7b-audio-av")
    with pytest.raises(CheckpointNotFound, match="Known: 2-7b-base"):
        catalog.find("zzz")


# (connector, vision encoder, audio encoder, audio projector, trunk + head): spec §1.2, §1.4.2, §1.5 and the LLMs' own
COUNTS = {
    "2-7b": (489_188_608, 303_507_456, 0, 7_241_732_096),
    "2-8x7b": (489_188_608, 303_507_456, 0, 46_702_792_704),
    "2-72b": (1_934_678_272, 303_507_456, 0, 72_706_203_648),
    "2.1-7b-16f": (376_889_248, 428_225_600, 0, 7_615_616_512),
    "2.1-7b-av": (376_889_248, 428_225_600, 90_717_055, 7_615_616_512),
}


@pytest.mark.parametrize("name", COUNTS)
def test_parameter_counts_are_those_of_the_published_networks(name: str) -> None:
    with torch.device("meta"):
        model = VideoLlama2ForConditionalGeneration(catalog.find(name).config())

    def count(module: torch.nn.Module | None) -> int:
        return 0 if module is None else sum(p.numel() for p in module.parameters())

    parts = model.model
    found = (
        count(parts.connector),
        count(parts.vision_encoder),
        count(parts.audio_encoder),
        count(parts.language_model) + count(model.lm_head),
    )
    assert found == COUNTS[name]
