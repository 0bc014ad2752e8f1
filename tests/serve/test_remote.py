"""The scheduler whose answers vLLM generates, with our own engine in vLLM's place."""

import queue
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from videollama2.backends.vllm.generator import Generation, require_vllm
from videollama2.backends.vllm.weightless import DecodedMediaCache, RemoteEngine, load_on_vllm
from videollama2.encoded_media import DecodedMedia
from videollama2.engine import Engine
from videollama2.errors import MediaLost, MissingExtra, NumericsError, UsageError
from videollama2.generation.batch import generate
from videollama2.generation.prompt import PromptAccount, PromptEmbeddings
from videollama2.generation.sampling import GenerateOptions
from videollama2.media import open_clip
from videollama2.receipt import Answer
from videollama2.serve.chat_job import ChatJob, TextChunk
from videollama2.serve.errors import ApiError
from videollama2.serve.metrics import ServerMetrics
from videollama2.serve.remote import ON_VLLM, RemoteScheduler, slot_ids
from videollama2.serve.settings import ServeSettings
from videollama2.text.media_parts import Media
from videollama2.text.tokenization import SLOT_MODALITIES

from .test_chat import until


class Here:
    """A generator that computes with our own engine, one id after the other, on a thread for each request."""

    name, device = "vLLM 0.0", "cpu"

    def __init__(self, engine: Engine) -> None:
        self.engine, self.begun, self.cancelled, self.closed = engine, 0, set(), False
        self.config = type("Config", (), {"dtype": torch.float32, "max_model_len": 4096})
        self.gate = threading.Event()
        self.gate.set()
        self.failure: Exception | None = None
        self.alive = True

    def begin(self, generation: Generation) -> int:
        self.begun += 1
        number = self.begun
        threading.Thread(target=self._run, args=(number, generation), daemon=True).start()
        return number

    def cancel(self, number: int) -> None:
        self.cancelled.add(number)

    def close(self) -> None:
        self.closed = True

    def _run(self, number: int, generation: Generation) -> None:
        if self.failure is not None:
            generation.on_end(self.failure)
            return
        prompt = self._embedded(generation)
        ids = generate(self.engine.model, [prompt.embeds[0]], generation.options, generation.stop_ids)[0]
        for token in ids:
            self.gate.wait(20)
            if number in self.cancelled:
                return
            generation.on_ids([token], None)
        generation.on_end(None)

    def _embedded(self, generation: Generation) -> PromptEmbeddings:
        items = [
            self.engine.encode_media(DecodedMedia(receipt=receipt, inputs=inputs))
            for inputs, receipt in (one.decoded(self.engine.processor) for one in generation.media)
        ]
        ids: list[int] = []
        left = iter(items)
        for token in generation.ids:
            if token in SLOT_MODALITIES:
                tokens = next(left).receipt.tokens
                ids += [id for kind, n in tokens.items() for id in [self.engine.model.config.placeholder_ids[kind]] * n]
            else:
                ids.append(token)
        by_kind = {k: [i.tokens[k] for i in items if k in i.tokens] for k in ("image", "video", "audio")}
        with torch.inference_mode():
            embeds = self.engine.model.model.embed_features(
                torch.tensor([ids]), by_kind["image"], by_kind["video"], by_kind["audio"]
            )
        return PromptEmbeddings(embeds, PromptAccount(input_ids=tuple(ids)))


@pytest.fixture
def remote(engine: Engine, tiny_folder: Path) -> RemoteEngine:
    return RemoteEngine(tiny_folder, "tiny", Here(engine), "full")  # type: ignore[arg-type]


@pytest.fixture
def scheduler(remote: RemoteEngine) -> Iterator[RemoteScheduler]:
    settings = ServeSettings(max_batch_size=2)
    cache = ON_VLLM.cache(remote, settings)
    made = RemoteScheduler(remote, settings, ServerMetrics(), open_clip, cache)
    yield made
    made.stop()
    assert made.join(10)
    assert remote.generator.closed  # type: ignore[attr-defined]


class Asked:
    def __init__(self, engine: Engine, *media: Media, strict: bool = False, **options: Any) -> None:
        self.events: queue.Queue[Any] = queue.Queue()
        content: list[Any] = [{"type": "video"} for _ in media]
        content.append({"type": "text", "text": "What do you see and hear?"})
        self.job = ChatJob(
            client="a", messages=[{"role": "user", "content": content}], media=lambda: media,
            options=GenerateOptions(**{"max_new_tokens": 8, **options}), protocol=engine.protocol, strict=strict,
            send=self.events.put,
        )  # fmt: skip

    def all(self) -> list[Any]:
        found = []
        while True:
            found.append(self.events.get(timeout=20))
            if isinstance(found[-1], Answer | Exception):
                return found


def test_the_answer_and_the_receipt_of_our_own_engine(
    engine: Engine, remote: RemoteEngine, scheduler: RemoteScheduler, media: Path
) -> None:
    item = Media(source=str(media / "clip.mp4"))
    wanted = engine.answer([item], "What do you see and hear?", max_new_tokens=8)
    for round in range(2):
        asked = Asked(remote, item)
        scheduler.submit(asked.job)
        *chunks, answer = asked.all()
        assert isinstance(answer, Answer), answer
        assert answer.text == wanted.text == "".join(c.text for c in chunks if isinstance(c, TextChunk))
        assert answer.finish_reason == wanted.finish_reason
        expected = replace(
            wanted.receipt, engine="vllm", arithmetic="vLLM 0.0", reused=(str(item.source),) if round else ()
        )
        assert answer.receipt == replace(expected, model="tiny")
        assert answer.timings["decode_seconds"] > 0


def test_a_stop_text_ends_the_request(engine: Engine, remote: RemoteEngine, scheduler: RemoteScheduler) -> None:
    whole = engine.answer(None, "What do you see and hear?", max_new_tokens=8).text
    stop = whole[len(whole) // 2]
    asked = Asked(remote, stop=(stop,))
    scheduler.submit(asked.job)
    answer = asked.all()[-1]
    assert (answer.text, answer.finish_reason) == (whole[: whole.index(stop)].rstrip(), "stop")
    until(lambda: 1 in remote.generator.cancelled)  # type: ignore[attr-defined]


def test_a_client_that_leaves(remote: RemoteEngine, scheduler: RemoteScheduler) -> None:
    here: Any = remote.generator
    here.gate.clear()
    asked = Asked(remote)
    scheduler.submit(asked.job)
    until(lambda: here.begun == 1)
    scheduler.cancel(asked.job)
    until(lambda: scheduler.running == 0)
    assert here.cancelled == {1}
    here.gate.set()
    other = Asked(remote)
    scheduler.submit(other.job)
    assert isinstance(other.all()[-1], Answer)


def test_at_most_so_many_at_once(remote: RemoteEngine, scheduler: RemoteScheduler) -> None:
    here: Any = remote.generator
    here.gate.clear()
    asked = [Asked(remote) for _ in range(5)]
    for one in asked:
        scheduler.submit(one.job)
    until(lambda: scheduler.running == here.begun == 2 and scheduler.waiting == 3)
    assert here.begun == 2
    here.gate.set()
    assert all(isinstance(one.all()[-1], Answer) for one in asked)
    assert here.begun == 5


def test_stopping_ends_what_runs_and_what_waits(remote: RemoteEngine, scheduler: RemoteScheduler) -> None:
    remote.generator.gate.clear()  # type: ignore[attr-defined]
    asked = [Asked(remote) for _ in range(4)]
    for one in asked:
        scheduler.submit(one.job)
    until(lambda: scheduler.running == 2)
    scheduler.stop()
    for one in asked:
        last = one.all()[-1]
        assert isinstance(last, ApiError)
        assert last.code == "stopping"


def test_an_error_ends_one_request(remote: RemoteEngine, scheduler: RemoteScheduler, media: Path) -> None:
    here: Any = remote.generator
    lost = Asked(remote, Media(source=str(media / "mute.mp4")), strict=True)
    scheduler.submit(lost.job)
    assert isinstance(lost.all()[-1], MediaLost)
    here.failure = NumericsError("NaN")
    failed = Asked(remote)
    scheduler.submit(failed.job)
    assert failed.all() == [here.failure]
    here.failure = None
    good = Asked(remote)
    scheduler.submit(good.job)
    assert isinstance(good.all()[-1], Answer)


def test_a_dead_engine_is_not_healthy(remote: RemoteEngine, scheduler: RemoteScheduler) -> None:
    assert scheduler.alive
    remote.generator.alive = False  # type: ignore[misc]
    assert not scheduler.alive


def test_slots_stand_for_placeholders(remote: RemoteEngine, media: Path) -> None:
    decoded = [
        remote.decode(Media(source=str(media / name)), remote.protocol)
        for name in ("still.png", "clip.mp4", "tone.wav")
    ]
    content = [{"type": kind} for kind in ("image", "video", "audio")] + [{"type": "text", "text": "And?"}]
    receipts = [item.receipt for item in decoded]
    encoded = remote.runner.tokenise([{"role": "user", "content": content}], receipts)
    account = PromptAccount(input_ids=encoded.input_ids, spans=encoded.spans)
    ids = slot_ids(account, decoded)
    assert [SLOT_MODALITIES[id] for id in ids if id in SLOT_MODALITIES] == ["image", "video", "audio"]
    outside = set(remote.model.config.placeholder_ids.values())
    assert [id for id in ids if id not in SLOT_MODALITIES] == [id for id in encoded.input_ids if id not in outside]


def test_the_cache_of_encoder_inputs_has_a_limit(remote: RemoteEngine, media: Path) -> None:
    cache = DecodedMediaCache(1 << 20, "tiny")
    first = Media(source=str(media / "clip.mp4"))
    assert remote.decode(first, remote.protocol, cache=cache).encoded is None
    assert remote.decode(first, remote.protocol, cache=cache).encoded is not None
    size = cache.nbytes
    assert 0 < size < 1 << 20
    for n in range(5, 20):
        remote.decode(replace(first, num_frames=n), remote.protocol, cache=cache)
    assert size < cache.nbytes <= 1 << 20
    assert remote.decode(first, remote.protocol, cache=cache).encoded is None


def test_a_cache_folder_is_rejected(remote: RemoteEngine, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="drop --cache-folder"):
        ON_VLLM.cache(remote, ServeSettings(cache_folder=tmp_path))


def test_stages_are_merged_first(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(UsageError, match="videollama2 merge"):
        load_on_vllm(tmp_path, "adapter")


def test_without_vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("videollama2.backends.vllm.generator.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"expected vllm>=0\.32,<0\.34"):
        require_vllm()
