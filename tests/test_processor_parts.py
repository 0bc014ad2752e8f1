"""The processor's parts: made alone, loaded by Auto classes, put together, changed, saved."""

import copy
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    AutoFeatureExtractor,
    AutoImageProcessor,
    AutoProcessor,
    AutoTokenizer,
    CLIPImageProcessorPil,
    WhisperFeatureExtractor,
)

import videollama2
from videollama2.errors import UsageError
from videollama2.processing import VideoLlama2Processor
from videollama2.processor_parts import VideoLlama2FeatureExtractor, VideoLlama2ImageProcessor

from . import tiny

PICTURE = Image.new("RGB", (64, 48), (200, 90, 30))
NO_IMAGES = "image_processor" not in VideoLlama2Processor.get_attributes()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    videollama2.register()
    place = tmp_path_factory.mktemp("processor")
    tiny.processor(tiny.config(num_frames=6)).save_pretrained(place)
    return place


def parts(folder: Path) -> dict[str, object]:
    return {
        "tokenizer": AutoTokenizer.from_pretrained(folder),
        "image_processor": VideoLlama2ImageProcessor.from_pretrained(folder),
        "feature_extractor": AutoFeatureExtractor.from_pretrained(folder),
    }


def test_a_processor_of_parts_is_the_one_that_was_saved(folder: Path) -> None:
    whole, made = AutoProcessor.from_pretrained(folder), VideoLlama2Processor(**parts(folder))
    assert made.to_dict() == whole.to_dict() and made.config.num_frames == 6
    given = {"images": PICTURE, "audio": tiny.tone(1.5), "sampling_rate": 16000}
    expected = whole("what?", **given)
    for processor in (made, copy.deepcopy(made), pickle.loads(pickle.dumps(made))):  # noqa: S301
        found = processor("what?", **given)
        assert found.keys() == expected.keys()
        for name, tensor in found.items():
            if name not in ("input_ids", "attention_mask"):  # an AutoTokenizer is not set up for our templates
                assert torch.equal(tensor, expected[name])


@pytest.mark.skipif(NO_IMAGES, reason="AutoImageProcessor of this transformers requires torchvision")
def test_auto_classes_load_the_parts(folder: Path) -> None:
    processor = AutoProcessor.from_pretrained(folder)
    images, audio = AutoImageProcessor.from_pretrained(folder), AutoFeatureExtractor.from_pretrained(folder)
    assert type(images) is VideoLlama2ImageProcessor and type(audio) is VideoLlama2FeatureExtractor
    assert torch.equal(images(PICTURE)["pixel_values"], processor(images=PICTURE)["pixel_values"])
    sound = tiny.tone(1.5)
    assert torch.equal(audio(sound)["input_features"], processor(audio=sound)["input_features"])
    assert AutoImageProcessor.from_pretrained(folder, do_normalize=False).do_normalize is False


def test_a_part_saved_alone_loads_alone(folder: Path, tmp_path: Path) -> None:
    processor = AutoProcessor.from_pretrained(folder)
    for name in ("image_processor", "feature_extractor"):
        part = getattr(processor, name)
        part.save_pretrained(tmp_path / name)
        again = type(part).from_pretrained(tmp_path / name)
        assert again.to_dict() == part.to_dict()
    alone = VideoLlama2ImageProcessor.from_pretrained(tmp_path / "image_processor")
    assert torch.equal(alone(PICTURE)["pixel_values"], processor(images=PICTURE)["pixel_values"])


def test_other_libraries_can_still_read_the_image_settings(folder: Path) -> None:
    assert json.loads((folder / "preprocessor_config.json").read_text())["image_processor_type"] == "CLIPImageProcessor"


def test_a_setting_of_a_part_is_the_processors(folder: Path) -> None:
    processor = AutoProcessor.from_pretrained(folder)
    normal = processor(images=PICTURE)["pixel_values"]
    processor.image_processor.rescale_factor = -1.0
    assert processor.pixels.rescale_factor == processor.video_processor.rescale_factor == -1.0
    assert processor(images=PICTURE)["pixel_values"].mean() < -1 < normal.mean()
    processor.image_processor.note = "kept"
    assert processor.image_processor.note == "kept" and "note" not in processor.image_processor.to_dict()
    with pytest.raises(UsageError, match="expects"):
        processor.image_processor.crop_size = {"height": 28, "width": 28}
    for name, value in (("sampling_rate", 8000), ("feature_size", 64)):
        with pytest.raises(UsageError, match=f"{name} can't be set"):
            setattr(processor.feature_extractor, name, value)
    with pytest.raises(UsageError, match="num_frames can't be set"):
        processor.video_processor.num_frames = 2


def test_an_image_processor_of_transformers_gives_its_settings(folder: Path) -> None:
    theirs = CLIPImageProcessorPil(
        size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56}, image_mean=[0.1, 0.2, 0.3]
    )
    processor = VideoLlama2Processor(tiny.tokenizer(), tiny.config(), image_processor=theirs)
    expected = theirs(PICTURE, return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(processor(images=PICTURE)["pixel_values"], expected, rtol=0, atol=2e-6)
    with pytest.raises(UsageError, match="other image settings"):
        VideoLlama2Processor(tiny.tokenizer(), tiny.config(), tiny.pixel_settings(), image_processor=theirs)
    with pytest.raises(UsageError, match="feature_extractor is a WhisperFeatureExtractor"):
        VideoLlama2Processor(tiny.tokenizer(), feature_extractor=WhisperFeatureExtractor())


def test_media_alone(tmp_path: Path) -> None:
    processor, clip = tiny.processor(tiny.config()), tiny.write_clip(tmp_path / "clip.mp4")
    whole = processor("what?", images=[PICTURE], videos=str(clip), audio=tiny.tone(1.0))
    alone = processor(images=[PICTURE], videos=str(clip), audio=tiny.tone(1.0))
    assert alone.keys() == whole.keys() - {"input_ids", "attention_mask"}
    assert all(torch.equal(alone[name], whole[name]) for name in alone)


def test_numpy_arrays(tmp_path: Path) -> None:
    processor, clip = tiny.processor(tiny.config(protocol="released")), tiny.write_clip(tmp_path / "clip.mp4")
    torches, arrays = (processor("what?", videos=str(clip), return_tensors=kind) for kind in ("pt", "np"))
    assert arrays.keys() == torches.keys() and torches["input_features"].dtype == torch.bfloat16
    for name, array in arrays.items():
        assert isinstance(array, np.ndarray) and np.array_equal(array, torches[name].to(torch.float64).numpy())
    assert isinstance(processor(images=PICTURE, return_tensors="np")["pixel_values"], np.ndarray)
    assert isinstance(processor.image_processor(PICTURE, return_tensors="np")["pixel_values"], np.ndarray)


def test_a_tokenizers_own_defaults_are_used(folder: Path) -> None:
    """As in transformers: keywords that a tokenizer was loaded with are defaults of the processor's calls."""
    tokenizer = AutoTokenizer.from_pretrained(folder, padding="max_length", max_length=60)
    processor = VideoLlama2Processor(tokenizer, tiny.config())
    assert processor("what?")["input_ids"].shape == (1, 60)
    assert processor("what?", padding=False)["input_ids"].shape[1] < 60
    assert processor("what?", text_kwargs={"max_length": 70})["input_ids"].shape == (1, 70)
    processor = VideoLlama2Processor(AutoTokenizer.from_pretrained(folder, padding="max_length"), tiny.config())
    assert processor("what?")["input_ids"].shape[1] < 60  # no length to pad to


def test_a_chat_template_is_the_tokenizers(folder: Path) -> None:
    processor = VideoLlama2Processor(tiny.tokenizer(), tiny.config(), chat_template="A")
    assert processor.chat_template == processor.tokenizer.chat_template == "A"
    processor.chat_template = "B"
    assert processor.tokenizer.chat_template == "B"


@pytest.mark.parametrize("frames", [3, 4])
def test_numbers_of_tokens_without_media(frames: int) -> None:
    """What engines reserve is what a call gives."""
    processor = tiny.processor(tiny.config())
    sizes, lengths = [(100, 30), (8, 8)], [16000, 41000, 70001]
    told = processor._get_num_multimodal_tokens(
        image_sizes=sizes, video_sizes=[(frames, 48, 64)], audio_lengths=lengths
    )
    ids = processor.config.placeholder_ids
    found = processor("a", images=PICTURE)["input_ids"]
    assert told["num_image_tokens"] == [int((found == ids["image"]).sum())] * 2 and told["num_image_patches"] == [1, 1]
    film = [np.zeros((48, 64, 3), np.uint8)] * frames
    found = processor("a", videos=[film], do_sample_frames=False)["input_ids"]
    assert told["num_video_tokens"] == [int((found == ids["video"]).sum())]
    waves = [np.random.default_rng(n).normal(size=n).astype(np.float32) for n in lengths]
    found = [processor("a", audio=wave, sampling_rate=16000)["input_ids"] for wave in waves]
    assert told["num_audio_tokens"] == [int((one == ids["audio"]).sum()) for one in found]
    assert "num_image_tokens" not in processor._get_num_multimodal_tokens(audio_lengths=[16000])


def test_media_of_several_questions_in_one_list() -> None:
    """Tags inside questions tell how many media are whose, unless that would move another person's media."""
    processor = tiny.processor(tiny.config())
    pictures = [Image.new("RGB", (56, 56), (40 * k, 0, 0)) for k in range(4)]

    def shares(texts: list[str], n: int) -> list[int]:
        batch = processor(texts, images=pictures[:n])
        assert torch.equal(batch["pixel_values"], processor(images=pictures[:n])["pixel_values"])
        tokens = processor._get_num_multimodal_tokens(image_sizes=[(1, 1)])["num_image_tokens"][0]
        return [int(n) // tokens for n in (batch["input_ids"] == processor.image_token_id).sum(1)]

    assert shares(["a <image><image>", "b <image><image>"], 4) == [2, 2]
    assert shares(["a <image>", " <image> b"], 2) == [1, 1]
    assert shares(["one <image><image> of mine", "two"], 2) == [1, 1]
    with pytest.raises(UsageError, match="3 image media were passed for 2 questions"):
        shares(["a <image>", "b"], 3)
