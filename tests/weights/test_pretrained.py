"""`from_pretrained` and `save_pretrained`: transformers' arguments and what they return, with our strictness."""

import contextlib
import copy
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForMultimodalLM, AutoProcessor

import videollama2
from videollama2.beats import BeatsConfig
from videollama2.configuration import VideoLlama2Config
from videollama2.errors import ConfigError, TensorMismatch, UsageError
from videollama2.hub import UnknownArgument
from videollama2.modeling import VideoLlama2ForConditionalGeneration, VideoLlama2Model

from .. import tiny
from . import tiny as original

WHOLE, TRUNK = VideoLlama2ForConditionalGeneration, VideoLlama2Model
HEAD = "lm_head.weight"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    videollama2.register()
    return tiny.save(tmp_path_factory.mktemp("whole") / "model")


@pytest.fixture(scope="module")
def trunk(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> Path:
    place = tmp_path_factory.mktemp("trunk") / "model"
    WHOLE.from_pretrained(folder).model.save_pretrained(place)
    return place


@pytest.fixture
def ids() -> torch.Tensor:
    return torch.arange(3, 11)[None]


def changed(folder: Path, target: Path, change: Any) -> Path:
    """A copy of a checkpoint with other tensors."""
    target.mkdir()
    (target / "config.json").write_bytes((folder / "config.json").read_bytes())
    save_file(change(load_file(folder / "model.safetensors")), target / "model.safetensors", metadata={"format": "pt"})
    return target


def test_shapes_alone_make_the_same_model(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Building on the meta device by allocating alone changes no weight and no buffer."""
    quick = WHOLE.from_pretrained(folder)
    monkeypatch.setattr("videollama2.weights.strict.ShapesOnly", contextlib.nullcontext)
    slow = WHOLE.from_pretrained(folder)
    for ours, theirs in (
        (quick.state_dict(), slow.state_dict()),
        (dict(quick.named_buffers()), dict(slow.named_buffers())),
    ):
        assert ours and ours.keys() == theirs.keys()
        for name, tensor in ours.items():
            assert tensor.dtype == theirs[name].dtype and torch.equal(tensor, theirs[name]), name


# ── settings ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_settings_replace_those_of_the_file(folder: Path) -> None:
    for model in (
        WHOLE.from_pretrained(folder, num_frames=6),
        AutoModelForMultimodalLM.from_pretrained(folder, num_frames=6),
        videollama2.load(folder, device="cpu", num_frames=6).model,
    ):
        assert model.config.num_frames == 6


def test_a_setting_is_checked(folder: Path) -> None:
    with pytest.raises(ConfigError, match="num_frames is 0"):
        WHOLE.from_pretrained(folder, num_frames=0)


def test_settings_of_a_part_are_merged_into_it(folder: Path) -> None:
    before = VideoLlama2Config.from_pretrained(folder).text_config.to_dict()
    after = VideoLlama2Config.from_pretrained(folder, text_config={"vocab_size": 99}).text_config.to_dict()
    assert after == {**before, "vocab_size": 99}
    with pytest.raises(TensorMismatch, match="2 misshapen"):
        WHOLE.from_pretrained(folder, text_config={"vocab_size": 99})


@pytest.mark.parametrize(
    "way",
    [
        WHOLE.from_pretrained, TRUNK.from_pretrained, VideoLlama2Config.from_pretrained, videollama2.load,
        videollama2.processing.VideoLlama2Processor.from_pretrained, AutoModelForMultimodalLM.from_pretrained,
        AutoModel.from_pretrained, AutoProcessor.from_pretrained,
    ],
)  # fmt: skip
def test_an_unknown_argument_is_named(folder: Path, way: Any) -> None:
    with pytest.raises(UnknownArgument, match=r"2 unknown argument.*'flavour', 'num_frame'.*'num_frames'") as error:
        way(folder, num_frame=6, flavour="sweet")
    assert isinstance(error.value, TypeError)  # as transformers' own


def test_a_configuration_takes_unused_arguments_back(folder: Path) -> None:
    config, unused = VideoLlama2Config.from_pretrained(folder, return_unused_kwargs=True, num_frames=6, flavour=1)
    assert (config.num_frames, unused) == (6, {"flavour": 1})


def test_a_configuration_of_transformers_next_version_loads_and_says_so(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = VideoLlama2Config.from_pretrained(folder)
    config.layer_norm_eps = 1e-3
    config.rms_norm_eps = 1e-3
    config.save_pretrained(tmp_path)
    assert VideoLlama2Config.from_pretrained(tmp_path).layer_norm_eps == 1e-3
    assert "unknown keys, which are ignored: layer_norm_eps, rms_norm_eps" in caplog.text


@pytest.mark.parametrize("key", ["num_frame", "conector_type", "audio_token_ids", "vocab_size", "hidden_size"])
def test_a_mistyped_key_stays_an_error(folder: Path, tmp_path: Path, key: str) -> None:
    values = json.loads((folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(values | {key: 7}))
    with pytest.raises(ConfigError, match=f"1 unknown key.*{key}"):
        VideoLlama2Config.from_pretrained(tmp_path)


def test_the_language_models_sizes_are_those_of_the_whole() -> None:
    """transformers and PEFT look for them there."""
    config = tiny.config()
    text = config.text_config
    for name in ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads"):
        assert getattr(config, name) == getattr(text, name)
        assert name not in config.to_dict()
    config.vocab_size = 77
    assert text.vocab_size == 77


def test_a_parts_configuration_reads_its_section_of_the_whole_ones(folder: Path) -> None:
    whole = VideoLlama2Config.from_pretrained(folder)
    assert BeatsConfig.from_pretrained(folder).encoder_layers == whole.audio_config.encoder_layers == 2


# ── what is loaded ────────────────────────────────────────────────────────────────────────────────────────────────


def test_base_and_whole_read_each_others_folders(folder: Path, trunk: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    for source in (folder, trunk):
        for name, tensor in TRUNK.from_pretrained(source).state_dict().items():
            assert torch.equal(tensor, tensors[f"model.{name}"])
    with pytest.raises(TensorMismatch, match=f"1 missing: {HEAD}"):
        WHOLE.from_pretrained(trunk)
    model, report = WHOLE.from_pretrained(trunk, output_loading_info=True)
    assert report["missing_keys"] == {HEAD}
    assert all(torch.equal(t, tensors[n]) for n, t in model.state_dict().items() if n != HEAD)


@pytest.mark.parametrize("tower", ["clip_vision_model", "siglip_vision_model"])
def test_an_empty_state_dict_initialises_as_the_class_does(tower: str, caplog: pytest.LogCaptureFixture) -> None:
    """Every tensor has the spread that its encoder's own rules give it, wherever the weights come from."""
    vision = {"model_type": tower, "hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2,
              "num_attention_heads": 2, "image_size": 28, "patch_size": 14}  # fmt: skip
    config = tiny.config(vision_config=vision)
    expected, found = WHOLE(copy.deepcopy(config)), WHOLE.from_pretrained(None, config=config, state_dict={})
    tensors = found.state_dict()
    assert tensors.keys() == expected.state_dict().keys() and not any(t.is_meta for t in tensors.values())
    for name, tensor in expected.state_dict().items():
        if tensor.numel() > 1000:
            assert 0.8 < tensors[name].float().std() / tensor.float().std() < 1.25, name
    assert "newly initialised" in caplog.text and len(caplog.text) < 3000
    with pytest.raises(TensorMismatch, match=r"missing: lm_head\.weight"):
        WHOLE.from_pretrained(None, config=config, state_dict={n: t for n, t in tensors.items() if n != HEAD})


def test_a_report_lists_what_would_be_refused(folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    part = changed(folder, tmp_path / "part", lambda t: {n: x for n, x in t.items() if n != HEAD} | {"own": t[HEAD]})
    with pytest.raises(TensorMismatch, match=r"1 missing: lm_head\.weight; 1 unexpected: own"):
        WHOLE.from_pretrained(part)
    _, report = WHOLE.from_pretrained(part, output_loading_info=True)
    assert (report["missing_keys"], report["unexpected_keys"]) == ({HEAD}, {"own"})
    assert "1 tensors missing, 1 unexpected, 0 misshapen; newly initialised: lm_head.weight" in caplog.text
    _, report = WHOLE.from_pretrained(folder, output_loading_info=True)
    assert not any(report.values())


def test_a_report_does_not_excuse_a_damaged_original(tmp_path: Path) -> None:
    tensors = original.original_tensors(original.model())
    tensors.pop(HEAD)
    folder = original.write(tmp_path / "original", original.original_config(), model=tensors)
    with pytest.raises(TensorMismatch, match=f"1 missing: {HEAD}"):
        WHOLE.from_pretrained(folder, output_loading_info=True)


def test_another_shape_is_initialised_on_request_alone(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    model, report = WHOLE.from_pretrained(
        folder, text_config={"vocab_size": 99}, ignore_mismatched_sizes=True, output_loading_info=True
    )
    assert model.lm_head.weight.shape == (99, 32) and bool(model.lm_head.weight.isfinite().all())
    assert {name for name, *_ in report["mismatched_keys"]} == {HEAD, "model.language_model.embed_tokens.weight"}
    assert "2 misshapen" in caplog.text
    with pytest.raises(TensorMismatch, match="misshapen") as error:
        WHOLE.from_pretrained(folder, text_config={"vocab_size": 99})
    assert isinstance(error.value, RuntimeError)  # as transformers' own


def test_tensors_under_other_names_load_through_a_mapping(folder: Path, tmp_path: Path) -> None:
    renamed = changed(
        folder, tmp_path / "renamed", lambda t: {n.replace("model.connector.", "net.c."): x for n, x in t.items()}
    )
    with pytest.raises(TensorMismatch, match=r"missing: model\.connector"):
        WHOLE.from_pretrained(renamed)
    model = WHOLE.from_pretrained(renamed, key_mapping={r"^net\.c\.": "model.connector."})
    model.save_pretrained(tmp_path / "saved")
    before, after = (load_file(f / "model.safetensors") for f in (folder, tmp_path / "saved"))
    assert before.keys() == after.keys() and all(torch.equal(after[n], t) for n, t in before.items())


def test_a_state_dict_in_place_of_a_folder(folder: Path) -> None:
    config, tensors = VideoLlama2Config.from_pretrained(folder), load_file(folder / "model.safetensors")
    model = WHOLE.from_pretrained(None, config=config, state_dict=tensors)
    assert all(torch.equal(t, tensors[n]) for n, t in model.state_dict().items())
    with pytest.raises(TensorMismatch, match=r"the state dict does not contain.*1 missing: lm_head\.weight"):
        WHOLE.from_pretrained(None, config=config, state_dict={n: t for n, t in tensors.items() if n != HEAD})
    for name, given in ((folder, {"state_dict": tensors}), (None, {"state_dict": tensors}), (None, {"config": config})):
        with pytest.raises(UsageError, match="None with both config= and state_dict="):
            WHOLE.from_pretrained(name, **given)


@pytest.mark.parametrize("save", [{}, {"max_shard_size": "100KB"}, {"variant": "fp16"},
                                  {"variant": "fp16", "max_shard_size": "100KB"}])  # fmt: skip
@pytest.mark.parametrize("cls", [WHOLE, TRUNK])
def test_a_round_trip_changes_nothing(folder: Path, tmp_path: Path, save: dict[str, Any], cls: Any) -> None:
    before = cls.from_pretrained(folder)
    before.save_pretrained(tmp_path, **save)
    assert (len(list(tmp_path.glob("*.safetensors"))) > 1) == ("max_shard_size" in save)
    after = cls.from_pretrained(tmp_path, variant=save.get("variant")).state_dict()
    assert before.state_dict().keys() == after.keys()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.state_dict().items())


def test_tied_weights_are_stored_once(tmp_path: Path) -> None:
    text = tiny.config().text_config.to_dict() | {"tie_word_embeddings": True}
    tiny.model(text_config=text, tie_word_embeddings=True).save_pretrained(tmp_path)
    assert HEAD not in load_file(tmp_path / "model.safetensors")
    model, report = WHOLE.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    assert model.lm_head.weight.data_ptr() == model.get_input_embeddings().weight.data_ptr()


def test_the_dtype(folder: Path, tmp_path: Path) -> None:
    WHOLE.from_pretrained(folder, dtype=torch.bfloat16).save_pretrained(tmp_path)
    assert WHOLE.from_pretrained(tmp_path).dtype == torch.bfloat16
    assert WHOLE.from_pretrained(tmp_path, dtype="auto").dtype == torch.bfloat16
    assert WHOLE.from_pretrained(tmp_path, torch_dtype="float32").dtype == torch.float32


# ── adapters ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # PEFT's
@pytest.mark.parametrize("processor", [False, True])
def test_an_adapter_loads_over_its_base(folder: Path, tmp_path: Path, ids: torch.Tensor, processor: bool) -> None:
    peft = pytest.importorskip("peft")
    lora = peft.LoraConfig(target_modules=r".*language_model.*\.(q_proj|v_proj)", init_lora_weights=False)
    adapted = peft.get_peft_model(WHOLE.from_pretrained(folder), lora)
    adapted.save_pretrained(tmp_path)
    if processor:
        AutoProcessor.from_pretrained(folder).save_pretrained(tmp_path)
    with torch.no_grad():
        expected = adapted(input_ids=ids).logits
        hidden = adapted.model.model(input_ids=ids).last_hidden_state
        assert not torch.allclose(expected, WHOLE.from_pretrained(folder)(input_ids=ids).logits)
        for cls in (WHOLE, AutoModelForMultimodalLM):
            model = cls.from_pretrained(tmp_path)
            torch.testing.assert_close(model(input_ids=ids).logits, expected)
            assert model.active_adapters() == ["default"]
        merged = videollama2.load(tmp_path, device="cpu", dtype="float32").model
        torch.testing.assert_close(merged(input_ids=ids).logits, expected, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(TRUNK.from_pretrained(tmp_path)(input_ids=ids).last_hidden_state, hidden)


# ── refusals ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"use_safetensors": False}, "pickles are never read"),
        ({"gguf_file": "x.gguf"}, "gguf_file is not supported"),
        ({"from_tf": True}, "from_tf is not supported"),
    ],
)
def test_other_formats_are_refused(folder: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        WHOLE.from_pretrained(folder, **options)


def test_errors_of_transformers_keep_their_words(folder: Path) -> None:
    with torch.device("meta"), pytest.raises(RuntimeError, match="with a meta device context manager"):
        WHOLE.from_pretrained(folder)
    with pytest.raises(ValueError, match='Specified `attn_implementation="fast"` is not supported'):
        WHOLE.from_pretrained(folder, attn_implementation="fast")
    with pytest.raises(OSError, match="no checkpoint"):
        WHOLE.from_pretrained(folder / "elsewhere")


@pytest.fixture
def stage_3(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What transformers sees while a DeepSpeed configuration with ZeRO-3 lives, as TrainingArguments makes one."""
    config = SimpleNamespace(is_zero3=lambda: True)
    reference = "_hf_deepspeed_config_weak_ref"
    monkeypatch.setattr(transformers.integrations.deepspeed, reference, lambda: config)
    yield


@pytest.mark.usefixtures("stage_3")
def test_zero_3_is_refused_before_anything_is_loaded(folder: Path) -> None:
    for way in (WHOLE.from_pretrained, AutoModelForMultimodalLM.from_pretrained):
        with pytest.raises(UsageError, match="ZeRO stage 3"):
            way(folder)


def test_zero_3_is_refused_for_a_model_that_was_loaded_before(folder: Path) -> None:
    model = WHOLE.from_pretrained(folder)
    model.train()
    for parameter in model.parameters():
        parameter.ds_id = 0  # as deepspeed marks what it partitions
    with pytest.raises(UsageError, match="ZeRO stage 3"):
        model.train()


def test_nothing_is_said_of_a_load_that_went_well(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        WHOLE.from_pretrained(folder)
    assert not caplog.records
