"""Rows of inference.py: whole models on the CPU. The "0.5B case" (Qwen2-0.5B, CLIP-L, random weights), and sessions.

8 frames of 336×336 → stc_connector → 845 video tokens, and 39 text tokens; then 32 new tokens, greedy.
"""

import copy
from collections.abc import Callable
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import plain
from measure import Case
from rows_parts import CLIP_L, connector_flop, random_model, vision_flop, with_attention

Builder = Callable[[], Case]
FRAMES, TEXT, NEW = 8, 39, 32
QWEN2_05B = {
    "model_type": "qwen2", "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24,
    "num_attention_heads": 14, "num_key_value_heads": 2, "vocab_size": 151936, "max_position_embeddings": 32768,
    "tie_word_embeddings": True, "rope_theta": 1e6, "bos_token_id": None, "eos_token_id": None,
}  # fmt: skip


def rows(scratch: Path, model: str | None = None) -> dict[str, Builder]:
    """Rows by name; with `model`, also questions to that model."""
    found: dict[str, Builder] = {
        "model05b.prefill": _prefill,
        "model05b.language_prefill": _language_prefill,
        "model05b.decode_31_tokens": _decode,
        "model05b.prefill_plus_32_tokens": _answer,
        "model05b.image_features": _image,
        "model05b.image_plus_8_tokens": _image_question,
        "session05b.second_question": partial(_session, scratch, "05b"),
        "session_tiny.second_question": partial(_session, scratch, "tiny"),
    }
    if model is not None:
        found["session_model.second_question"] = partial(_session, scratch, model)
    return found


class Pair:
    """Our model, and the plain implementation with the same tensors."""

    def __init__(self) -> None:
        from transformers import Qwen2Config, Qwen2ForCausalLM

        from videollama2.configuration import VideoLlama2Config
        from videollama2.linear import use_onednn

        torch.manual_seed(4)
        config = VideoLlama2Config(
            vision_config=CLIP_L, text_config=QWEN2_05B, connector_type="stc_connector", num_frames=FRAMES
        )
        self.ours = ours = random_model(config)
        use_onednn(ours)  # as videollama2.load does
        self.encoder = with_attention(ours.model.vision_encoder, "eager")
        self.connector = plain.Connector(1024, 896, 1).requires_grad_(False)
        self.connector.load_state_dict(ours.model.connector.state_dict(), assign=True)
        values = {k: v for k, v in QWEN2_05B.items() if k != "model_type"}
        with torch.device("meta"):
            text = Qwen2ForCausalLM(Qwen2Config(**values))
        trunk = ours.model.language_model
        state = {f"model.{k}": v for k, v in trunk.state_dict().items()} | {"lm_head.weight": ours.lm_head.weight}
        text.load_state_dict(state, assign=True)
        text.model.rotary_emb = trunk.rotary_emb
        self.text = text.eval().requires_grad_(False)  # with sdpa, the public implementation's default
        self.pixels = torch.randn(1, FRAMES, 3, 336, 336)
        self.words = torch.randint(0, 150000, (1, TEXT))

    @cached_property
    def packed(self) -> Any:
        """Ours as videollama2.load makes it with fp16_weights=True; half a minute."""
        from videollama2.generation.fp16_linear import convert_linears

        ours = self.ours
        packed = copy.deepcopy(ours, {id(t): t for t in [*ours.parameters(), *ours.buffers()]})
        convert_linears(packed)
        return packed

    @property
    def flops(self) -> dict[str, float]:
        """Work of each stage."""
        vision = vision_flop(self.ours.config.vision_config, FRAMES, 23)
        connector, tokens = connector_flop(FRAMES, 24, 1024, 896, 1)
        return {"vision": vision, "connector": connector, "language": language_flop(QWEN2_05B, tokens + TEXT)}

    @torch.inference_mode()
    def embeds(self) -> Tensor:
        """Ours: [1, 884, 896]."""
        video = self.ours.model.get_video_features(self.pixels).pooler_output[0]
        return torch.cat([video[None], self.ours.get_input_embeddings()(self.words)], 1)

    @torch.inference_mode()
    def plain_embeds(self) -> Tensor:
        """The same, by the plain implementation."""
        video = self.connector(plain.vision(self.encoder, self.pixels[0])[None])
        return torch.cat([video, self.text.get_input_embeddings()(self.words)], 1)


def language_flop(text: dict[str, Any], positions: int) -> float:
    """Work of a prefill, with logits of the last position only."""
    D, M, L = text["hidden_size"], text["intermediate_size"], text["num_hidden_layers"]
    kv = D * text["num_key_value_heads"] // text["num_attention_heads"]
    per_layer = 2.0 * positions * (2 * D * D + 2 * D * kv + 3 * D * M) + 2.0 * positions * positions * D
    return L * per_layer + 2.0 * D * text["vocab_size"]


def step_bytes(model: Any) -> float:
    """Bytes of weights read by one decoding step: all linear layers of the language model, and the head."""
    from videollama2.generation.fp16_linear import Fp16Linear

    linears = [m for m in [*model.model.language_model.modules(), model.lm_head] if hasattr(m, "in_features")]
    return float(
        sum(m.in_features * m.out_features * (2 if isinstance(m, Fp16Linear) else m.weight.itemsize) for m in linears)
    )


@lru_cache(maxsize=1)
def pair() -> Pair:
    """The models, built once; several gigabytes."""
    return Pair()


def first_tokens(model: Any, embeds: Tensor, count: int, cache: Any = None) -> Tensor:
    """Greedy ids [B, count] from our decoder; `cache` holds what comes before `embeds` [B, L, D]."""
    from videollama2.generation.batch import generate
    from videollama2.generation.sampling import GenerateOptions

    options = GenerateOptions(max_new_tokens=count).with_defaults(None)
    return torch.tensor(generate(model, embeds, options, [], cache))


def _prefill() -> Case:
    p = pair()
    return Case(
        {
            "ours": lambda: first_tokens(p.ours, p.embeds(), 1),
            "plain": torch.inference_mode()(lambda: plain.greedy(p.text, p.plain_embeds(), 1)),
        },
        flop=sum(p.flops.values()),
        goal=1.3,
        slow=True,
        note="from 8 frames to the first token: vision encoder, connector, 884 positions",
    )


def _language_prefill() -> Case:
    p = pair()
    embeds = p.embeds()
    return Case(
        {
            "ours": lambda: first_tokens(p.ours, embeds, 1),
            "plain": lambda: plain.greedy(p.text, embeds, 1),
            "ours, fp16 weights": lambda: first_tokens(p.packed, embeds, 1),
        },
        flop=p.flops["language"],
        goal=1.3,
        note="884 positions to the first token",
    )


def _decode() -> Case:
    from transformers import DynamicCache

    p = pair()
    embeds = p.embeds()
    caches = [DynamicCache(config=p.text.config) for _ in range(3)]
    for cache in caches:
        first_tokens(p.packed, embeds, 1, cache)
    start = p.ours.get_input_embeddings()(p.words[:, -1:])

    def run(generate: Callable[..., Tensor], model: Any, cache: Any) -> Tensor:
        ids = generate(model, start, NEW - 1, cache)
        cache.crop(1 - NEW)
        return ids

    return Case(
        {
            "ours": partial(run, first_tokens, p.packed, caches[0]),
            "plain": partial(run, plain.greedy, p.text, caches[1]),
            "ours, float32 weights": partial(run, first_tokens, p.ours, caches[2]),
        },
        bytes=(NEW - 1) * step_bytes(p.packed),
        tokens=NEW - 1,
        goal=1.5,
        note="31 tokens after 884 positions; ours with fp16_weights=True",
    )


def _answer() -> Case:
    p = pair()
    return Case(
        {
            "ours": lambda: first_tokens(p.ours, p.embeds(), NEW),
            "plain": torch.inference_mode()(lambda: plain.greedy(p.text, p.plain_embeds(), NEW)),
        },
        goal=1.6,
        slow=True,
        note="from 8 frames to 32 tokens",
    )


def _image() -> Case:
    p = pair()
    image = p.pixels[:, 0]

    def copies() -> Tensor:
        with torch.inference_mode():
            return p.connector(plain.vision(p.encoder, image.expand(FRAMES, -1, -1, -1))[None])[0]

    def once() -> Tensor:
        with torch.inference_mode():
            return p.ours.model.get_image_features(image).pooler_output[0]

    connector = connector_flop(3, 24, 1024, 896, 1)[0]
    return Case(
        {"ours": once, "plain": copies},
        flop=vision_flop(p.ours.config.vision_config, 1, 23) + connector,
        slow=True,
        note="an image used as 8 frames: encoded once; plain encodes 8 copies; the same 845 tokens",
    )


def _image_question() -> Case:
    """A question about an image; its frames are copies, which only the plain implementation encodes."""
    p = pair()
    words = p.ours.get_input_embeddings()(p.words)

    @torch.inference_mode()
    def ours() -> Tensor:
        video = p.ours.model.get_image_features(p.pixels[:, 0]).pooler_output[0]
        return first_tokens(p.ours, torch.cat([video[None], words], 1), 8)

    @torch.inference_mode()
    def copies() -> Tensor:
        frames = p.pixels[:, 0].expand(FRAMES, -1, -1, -1)
        video = p.connector(plain.vision(p.encoder, frames)[None])
        return plain.greedy(p.text, torch.cat([video, words], 1), 8)

    variants = {"ours": ours, "plain": copies}
    return Case(variants, goal=6.0, slow=True, note="an image used as 8 frames, to 8 tokens")


# ── sessions ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _session(scratch: Path, which: str) -> Case:
    """A second question to a session, against a new question: no decoding, no encoding, prefill of new text only."""
    engine = _engine(which)
    clip = _clip(scratch)
    options = {"max_new_tokens": 4}
    session = engine.open(clip)
    session.ask("What is shown?", **options)
    return Case(
        {
            "ours": lambda: str(session.ask("Which colour is it?", **options)) and None,
            "plain": lambda: str(engine.answer(clip, "Which colour is it?", **options)) and None,
        },
        slow=which == "05b",
        note="ours: another question to an open session; plain: the same from scratch; 4 tokens each",
    )


def _engine(which: str) -> Any:
    import videollama2
    from videollama2.configuration import VideoLlama2Config
    from videollama2.device import choose
    from videollama2.engine import Engine
    from videollama2.processing import VideoLlama2Processor

    if which not in ("05b", "tiny"):
        return videollama2.load(which)
    if which == "05b":
        model = pair().ours
    else:
        vision = CLIP_L | {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 2}
        text = QWEN2_05B | {
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "vocab_size": 600,
        }
        config = VideoLlama2Config(vision_config=vision, text_config=text, connector_type="stc_connector_v35")
        model = random_model(config)
    processor = VideoLlama2Processor(_tokenizer(), model.config)
    return Engine(model, processor, name=which, placement=choose("cpu", "float32"), default_protocol="full")


def _tokenizer() -> Any:
    """A byte-level tokenizer with a ChatML template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {piece: i for i, piece in enumerate(["<|endoftext|>", "<|im_start|>", "<|im_end|>", *alphabet])}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    made = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    made.chat_template = (
        "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
        "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    return made


def _clip(scratch: Path) -> Path:
    """Path of a clip: ten seconds of moving noise, 640×360, 25 frames per second."""
    import av

    path = scratch / "noise.mp4"
    if path.exists():
        return path
    picture = np.random.default_rng(7).integers(0, 255, (360, 640, 3), np.uint8)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 640, 360, "yuv420p"
        for i in range(250):
            frame = av.VideoFrame.from_ndarray(np.roll(picture, 3 * i, axis=1), format="rgb24")
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path
