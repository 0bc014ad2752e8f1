"""What lmms-eval's face does without lmms-eval: messages become requests, benchmarks become tasks with our figures."""

import importlib.metadata
import io
import json
import sys
import wave
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from videollama2.cli import main
from videollama2.errors import UnreadableMedia, UsageError
from videollama2.evals import lmms, lmms_tasks
from videollama2.evals.registry import benchmark
from videollama2.evals.run import evaluate

from .choice_miniatures import Media, cmm
from .fake import FakeEngine


def test_the_entry_point_needs_nothing() -> None:
    found = [e for e in importlib.metadata.entry_points(group="lmms_eval.models") if e.name == "videollama2"]
    assert all(entry.value == "videollama2.evals.lmms:manifests" for entry in found)
    assert "lmms_eval" not in sys.modules


def test_messages_become_a_request() -> None:
    sound = {"array": np.sin(np.arange(800) / 5), "sampling_rate": 8000}
    video = SimpleNamespace(type="video", url="a.mp4", start_time=1.5, end_time=None)
    messages = [
        {"role": "system", "content": "Be brief."},
        SimpleNamespace(
            role="user", content=[video, {"type": "audio", "url": sound}, {"type": "text", "text": "What?"}]
        ),
    ]
    kwargs = {"max_new_tokens": 7, "temperature": 0, "until": ["\n\n", ""], "do_sample": False, "top_p": 0.9}
    asked = lmms.request(messages, kwargs, lmms.LmmsOptions.of("full", "4", "False"))
    media, said = asked.media_items(), asked.conversation(["video", "audio"])
    assert len(media) == 2  # the video's audio is off, so the other is asked about on its own
    assert (media[0].source, media[0].start, media[0].num_frames, media[0].audio) == ("a.mp4", 1.5, 4, False)
    with wave.open(io.BytesIO(media[1].source)) as file:
        assert (file.getframerate(), file.getnframes(), media[1].video) == (8000, 800, False)
    assert said[0] == {"role": "system", "content": [{"type": "text", "text": "Be brief."}]}
    options = asked.options
    assert (options.max_new_tokens, options.temperature, options.stop) == (7, 0.0, ("\n\n",))
    drawn = lmms.request(messages, {"temperature": 0.5, "top_p": 0.9, "until": "x"}, lmms.LmmsOptions())
    assert (drawn.options.temperature, drawn.options.top_p, drawn.options.stop) == (0.5, 0.9, ("x",))
    with pytest.raises(UsageError, match="'smell'"):
        lmms.request([{"role": "user", "content": [{"type": "smell"}]}], {}, lmms.LmmsOptions())
    with pytest.raises(UsageError, match="whole number"):
        lmms.LmmsOptions.of(frames="many")


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The class that lmms-eval makes, on a base class that stands for lmms-eval's."""
    package, api, base = (ModuleType(name) for name in ("lmms_eval", "lmms_eval.api", "lmms_eval.api.model"))
    base.lmms = type("lmms", (), {"task_dict": {}})  # type: ignore[attr-defined]
    for module in (package, api, base):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.delitem(sys.modules, "videollama2.evals.lmms_model", raising=False)
    module = importlib.import_module("videollama2.evals.lmms_model")
    fake = FakeEngine({"broken": UnreadableMedia("it is broken")}, otherwise="B")
    fake.opener = lambda *_, **__: None
    monkeypatch.setattr(module, "load", lambda *_, **__: fake)
    yield module.VideoLlama2
    sys.modules.pop("videollama2.evals.lmms_model")


def asked_of(made: Any, *questions: str) -> list[str]:
    made.task_dict = {"t": {"test": list(questions)}}
    to_messages = lambda doc: [{"role": "user", "content": [{"type": "text", "text": doc}]}]  # noqa: E731
    requests = [SimpleNamespace(args=("", to_messages, {}, i, "t", "test")) for i in range(len(questions))]
    return list(made.generate_until(requests))


def test_the_model_replies_and_failures_are_said(model: Any, caplog: pytest.LogCaptureFixture) -> None:
    engine = model(pretrained="nano", batch_size="1").engine
    engine.replies = lambda request: UnreadableMedia("it is broken") if "broken" in str(request.messages) else "B"
    assert asked_of(model(), "one", "two") == ["B", "B"]
    with pytest.raises(UnreadableMedia) as caught:
        asked_of(model(), "one", "broken")
    assert "errors=empty" in caught.value.__notes__[0]
    assert asked_of(model(errors="empty"), "broken", "two") == ["", "B"]
    assert "1 of 2 items failed; their replies are empty" in caplog.text
    for wrong in ({"errors": "ignore"}, {"colour": "red"}, {"model": "a", "pretrained": "b"}):
        with pytest.raises(UsageError, match="--model_args"):
            model(**wrong)
    with pytest.raises(NotImplementedError, match="generate_until"):
        model().loglikelihood([])


def test_an_exported_task_has_the_figures_of_our_own_loop(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "cmm"
    cmm(folder, Media(tmp_path))
    assert main(["eval", "export", "cmm", "--data", str(folder), "--out", str(tmp_path / "tasks")]) == 0
    assert capsys.readouterr().out.startswith("videollama2_cmm")
    docs = [json.loads(line) for line in (tmp_path / "tasks" / "cmm.jsonl").read_text(encoding="utf-8").splitlines()]
    yaml = (tmp_path / "tasks" / "cmm.yaml").read_text(encoding="utf-8")
    assert "task: videollama2_cmm\n" in yaml and str(tmp_path / "tasks" / "cmm.jsonl") in yaml
    glue = (tmp_path / "tasks" / f"{lmms_tasks.GLUE}.py").read_text(encoding="utf-8")
    chosen = benchmark("cmm")
    assert f"def {chosen.metric}(results)" in glue
    ours = evaluate(FakeEngine(otherwise="Yes."), chosen, folder, tmp_path / "out")
    found = [lmms_tasks.process_results(doc, ["Yes."])[chosen.metric] for doc in docs]
    there = [r for r in ours.results if r.error is None and r.truth]
    assert len(found) == len(there) and json.dumps(found)
    assert lmms_tasks.figure(found, chosen.metric) == pytest.approx(chosen.metrics(there)[chosen.metric])
    (turn,) = lmms_tasks.messages(docs[0])
    assert (
        turn["content"][0]["url"] == lmms_tasks.visual(docs[0])[0] and turn["content"][1]["text"] == docs[0]["question"]
    )
    assert lmms_tasks.target(docs[0]) in ("yes", "no")


def test_a_separate_audio_file_is_a_part_of_its_own(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    cmm(tmp_path / "data", Media(tmp_path_factory.mktemp("media")))
    lmms_tasks.export(benchmark("cmm"), tmp_path / "data", tmp_path / "out")
    docs = [json.loads(line) for line in (tmp_path / "out" / "cmm.jsonl").read_text("utf-8").splitlines()]
    (doc, *_) = [doc for doc in docs if doc["audio_source"] is not None]
    (turn,) = lmms_tasks.messages(doc)
    assert [part["type"] for part in turn["content"]] == ["video", "audio", "text"]
    assert turn["content"][1]["url"].endswith(".wav") and lmms_tasks.visual(doc) == [doc["source"], doc["audio_source"]]


@pytest.mark.parametrize("before", [None, "Be brief."])
def test_an_audio_part_after_the_video_is_the_videos_audio(before: str | None) -> None:
    content = [
        {"type": "video", "url": "a.mp4", "start_time": 2.0},
        {"type": "audio", "url": "a.wav"},
        {"type": "text", "text": "What?"},
    ]
    messages = [{"role": "user", "content": content}]
    given = [{"role": "system", "content": before}] if before else []
    asked = lmms.request([*given, *messages], {}, lmms.LmmsOptions.of(frames=4))
    (media,) = asked.media_items()
    assert (media.source, media.audio_source, media.start, media.num_frames) == ("a.mp4", "a.wav", 2.0, 4)
    assert (asked.question, asked.system) == ("What?", before)
    for other in ([content[1], content[0], content[2]], [content[0], content[2], content[1]], [content[0], *content]):
        asked = lmms.request([{"role": "user", "content": other}], {}, lmms.LmmsOptions())
        assert asked.messages is not None and all(media.audio_source is None for media in asked.media_items())
