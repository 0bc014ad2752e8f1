"""GPU rows of inference.py: the 7B shape in bfloat16 (Qwen2-7B, SigLIP so400m, stc_connector_v35), random weights.

16 frames of 384×384 → 1352 video tokens, and 60 text tokens. Needs no media files.
"""

import copy
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor

import plain
from measure import Case
from rows_model import first_tokens, language_flop, step_bytes
from rows_parts import connector_flop, random_model, vision_flop, with_attention

Builder = Callable[[], Case]
FRAMES, TEXT, NEW = 16, 60, 256
QWEN2_7B = {
    "model_type": "qwen2", "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28,
    "num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 152064, "max_position_embeddings": 32768,
    "tie_word_embeddings": False, "rope_theta": 1e6, "bos_token_id": None, "eos_token_id": None,
}  # fmt: skip
SIGLIP = {
    "model_type": "siglip_vision_model", "hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27,
    "num_attention_heads": 16, "image_size": 384, "patch_size": 14, "hidden_act": "gelu_pytorch_tanh",
    "layer_norm_eps": 1e-6,
}  # fmt: skip


def rows(device: torch.device) -> dict[str, Builder]:
    """Rows by name."""
    return {
        "gpu7b.vision_16frames": partial(_vision, device),
        "gpu7b.connector_T16": partial(_connector, device),
        "gpu7b.language_prefill_1412": partial(_language_prefill, device, 1),
        "gpu7b.language_prefill_8x1412": partial(_language_prefill, device, 8),
        "gpu7b.prefill": partial(_prefill, device),
        "gpu7b.decode_step": partial(_decode_step, device),
        "gpu7b.answer_256_tokens": partial(_answer, device),
    }


class Model:
    """The model and its inputs."""

    def __init__(self, device: torch.device) -> None:
        from videollama2.configuration import VideoLlama2Config

        config = VideoLlama2Config(
            vision_config=SIGLIP, text_config=QWEN2_7B, connector_type="stc_connector_v35", num_frames=FRAMES
        )
        self.ours = random_model(config, str(device), torch.bfloat16)
        self.pixels = torch.randn(1, FRAMES, 3, 384, 384, device=device, dtype=torch.bfloat16)
        self.words = torch.randint(0, 150000, (1, TEXT), device=device)
        self.tokens = connector_flop(FRAMES, 27, 1152, 3584, 0)[1]

    @torch.inference_mode()
    def embeds(self) -> Tensor:
        """[1, 1412, 3584]."""
        video = self.ours.model.get_video_features(self.pixels).pooler_output[0]
        return torch.cat([video[None], self.ours.get_input_embeddings()(self.words)], 1)

    @torch.inference_mode()
    def some_embeds(self, batch: int) -> Tensor:
        """[batch, 1412, 3584], text embeddings only, so that values stay small."""
        ids = torch.randint(0, 150000, (batch, self.tokens + TEXT), device=self.words.device)
        return self.ours.get_input_embeddings()(ids)

    @property
    def vision_flop(self) -> float:
        """Work of encoding 16 frames."""
        return vision_flop(self.ours.config.vision_config, FRAMES, 26)


@lru_cache(maxsize=1)
def model(device: torch.device) -> Model:
    """The model, built once; 17 GB."""
    return Model(device)


@torch.inference_mode()
def _logits(network: Any, embeds: Tensor, keep: int) -> Tensor:
    out = network(inputs_embeds=embeds, use_cache=True, logits_to_keep=keep)
    last: Tensor = out.logits[:, -1]
    return last


def _vision(device: torch.device) -> Case:
    from videollama2.vision import encode_frames

    m = model(device)
    theirs = with_attention(m.ours.model.vision_encoder, "eager")
    pixels = m.pixels[0]

    def ours() -> Tensor:
        with torch.inference_mode():
            return encode_frames(m.ours.model.vision_encoder, pixels, -2)

    return Case({"ours": ours, "plain": partial(plain.vision, theirs, pixels)}, flop=m.vision_flop, tolerance=0.1)


def _connector(device: torch.device) -> Case:
    m = model(device)
    with torch.device("meta"):
        theirs = plain.Connector(1152, 3584, 0)
    theirs.load_state_dict(m.ours.model.connector.state_dict(), assign=True)
    features = torch.randn(1, FRAMES, 729, 1152, device=device, dtype=torch.bfloat16)
    run = torch.inference_mode()(lambda module: module(features))
    flop = connector_flop(FRAMES, 27, 1152, 3584, 0)[0]
    return Case({"ours": lambda: run(m.ours.model.connector), "plain": lambda: run(theirs)}, flop=flop, tolerance=0.1)


def _language_prefill(device: torch.device, batch: int) -> Case:
    m = model(device)
    embeds = m.some_embeds(batch)
    flop = batch * language_flop(QWEN2_7B, embeds.shape[1])
    return Case(
        {"ours": lambda: _logits(m.ours, embeds, 1), "plain": lambda: _logits(m.ours, embeds, 0)},
        flop=flop,
        tolerance=0.1,
        note="goal: 70 % of the matrix rate; plain computes logits of all positions",
    )


def _prefill(device: torch.device) -> Case:
    m = model(device)
    flop = m.vision_flop + connector_flop(FRAMES, 27, 1152, 3584, 0)[0] + language_flop(QWEN2_7B, m.tokens + TEXT)
    return Case(
        {"ours": lambda: _logits(m.ours, m.embeds(), 1)},
        flop=flop,
        note="from 16 frames to the first token; goal: 70 % of the matrix rate",
    )


def _decode_step(device: torch.device) -> Case:
    """32 tokens after a prompt of 1412: as a CUDA graph, and kernel by kernel."""
    from transformers import DynamicCache

    from videollama2.generation.cuda_graph import record

    m = model(device)
    embeds = m.some_embeds(1)
    caches = [DynamicCache(config=m.ours.config.text_config) for _ in range(2)]
    for cache in caches:
        first_tokens(m.ours, embeds, 1, cache)
    length, steps = embeds.shape[1], 32
    mask = torch.ones(1, length, dtype=torch.long, device=device)

    @torch.inference_mode()
    def recorded() -> Tensor:
        logits = torch.zeros(1, 1)
        for i in range(steps):
            if i == 0:
                step.rewind(start)
            logits = step(m.words[:, i])
        return logits.clone()

    @torch.inference_mode()
    def eager() -> Tensor:
        logits = torch.zeros(1, 1)
        for i in range(steps):
            position = torch.tensor([[length + i]], device=device)
            logits = m.ours(
                inputs_embeds=m.ours.get_input_embeddings()(m.words[:, i : i + 1]),
                position_ids=position, past_key_values=caches[1], use_cache=True, logits_to_keep=1,
            ).logits[:, -1]  # fmt: skip
        caches[1].crop(-steps)
        return logits

    with torch.inference_mode():
        # enough room for every run: the graph is rewound before each
        step = record(m.ours, caches[0], mask, torch.tensor([[length]], device=device), 1024)
        if step is None:
            raise RuntimeError("could not capture the decoding step as a CUDA graph")
        start = copy.deepcopy(step.state)
    return Case(
        {"ours": recorded, "plain": eager},
        bytes=steps * step_bytes(m.ours),
        tokens=steps,
        tolerance=0.1,
        note="32 tokens after a prompt of 1412; goal: 70 % of the memory rate",
    )


def _answer(device: torch.device) -> Case:
    from videollama2.generation import steps

    m = model(device)
    embeds = m.some_embeds(1)
    real = steps.record

    def eager() -> None:
        steps.record = lambda *_: None
        try:
            first_tokens(m.ours, embeds, NEW)
        finally:
            steps.record = real

    def ours() -> None:
        first_tokens(m.ours, embeds, NEW)

    return Case(
        {"ours": ours, "plain": eager},
        tokens=NEW,
        slow=True,
        note="prefill and 256 tokens, with the graph capture",
    )
