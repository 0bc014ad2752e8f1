"""Compare nano with its base model on held-out conversations without media.

    python recipes/nano/text.py --gguf SmolLM2….gguf --model FOLDER --tokenizer FOLDER [--questions 60]

The questions have other topics and wordings than training's; the answers are the base model's own, and twelve written
by people. The result is the mean loss per answer token of both models.
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from batches import encode_sample
from chat import HELD_OUT_PAIRS, distil, held_out_questions
from model import nano_config
from transformers import PreTrainedTokenizerFast

from videollama2.modeling import VideoLlama2ForConditionalGeneration
from videollama2.weights.nano import LANGUAGE_PREFIX, base_state_dict


@torch.no_grad()
def loss(model: Any, tokenizer: Any, pairs: list[tuple[str, str]]) -> float:
    """Mean loss per token of the answers."""
    total = count = 0.0
    for question, answer in pairs:
        ids, labels = (torch.tensor([row]) for row in encode_sample(tokenizer, question, answer))
        tokens = int((labels[:, 1:] >= 0).sum())
        total += float(model(input_ids=ids, labels=labels).loss) * tokens
        count += tokens
    return total / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("gguf", "model", "tokenizer"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--questions", type=int, default=60)
    args = parser.parse_args()
    tokenizer = PreTrainedTokenizerFast.from_pretrained(args.tokenizer)
    base = VideoLlama2ForConditionalGeneration(nano_config(1)).eval()
    base.load_state_dict({LANGUAGE_PREFIX + k: v for k, v in base_state_dict(args.gguf).items()}, strict=False)
    base.tie_weights()
    nano = VideoLlama2ForConditionalGeneration.from_pretrained(args.model, dtype=torch.float32).eval()
    said = distil(base, tokenizer, batch=30, asked=held_out_questions()[: args.questions])
    for name, pairs in (("the base model's own answers", said), ("answers that people wrote", HELD_OUT_PAIRS)):
        before, after = (loss(model, tokenizer, pairs) for model in (base, nano))
        change = 100 * (after / before - 1)
        print(f"{name}: {len(pairs)}, loss {before:.3f} (base), {after:.3f} (nano), {change:+.1f} %")


if __name__ == "__main__":
    main()
