"""Text-only samples: the base model's own answers to short questions, so that training does not wear its talk away."""

import itertools
import random
from typing import Any

import torch

TOPICS = (
    "the sea", "a dog", "rain", "music", "a garden", "the moon", "bread", "a train", "winter", "mathematics", "a river",
    "coffee", "a friend", "history", "the brain", "trees", "a bicycle", "painting", "sleep", "money", "a city", "birds",
    "computers", "the sun", "football", "a letter", "glass", "an island", "school", "a market", "space", "family",
    "gravity", "democracy", "a castle", "chess", "photosynthesis", "earthquakes", "honesty", "tea",
)  # fmt: skip
ASKS = (
    "Write one sentence about {}.", "What is interesting about {}?", "Explain {} to a child.", "Why do people like {}?",
    "Tell me something about {}.", "Give me three words for {}.", "Write a short poem about {}.", "What does {} mean?",
    "How would you describe {}?", "Name two facts about {}.", "What can I learn from {}?", "Is {} important? Why?",
)  # fmt: skip
PLAIN = (
    "Who are you?", "What can you do?", "Hello!", "How are you?", "What is the capital of France?", "Good morning.",
    "What is the capital of Italy?", "How many days are in a week?", "What is two plus three?", "Thank you!",
    "Tell me a joke.", "What is the largest planet?", "Translate 'good night' into French.", "What colour is the sky?",
    "Give me a recipe for soup.", "Write a haiku.", "What should I read?", "Summarise the story of Cinderella.",
)  # fmt: skip


def questions(seed: int = 0) -> list[str]:
    out = [a.format(t) for a, t in itertools.product(ASKS, TOPICS)] + list(PLAIN)
    random.Random(seed).shuffle(out)
    return out


@torch.no_grad()
def distil(
    model: Any, tokenizer: Any, *, batch: int = 128, new_tokens: int = 64, most: int | None = None
) -> list[tuple[str, str]]:
    """(question, answer) pairs; answers that did not end within `new_tokens` are left out."""
    device = next(model.parameters()).device
    asked, pairs = questions()[:most], []
    tokenizer.padding_side = "left"
    for start in range(0, len(asked), batch):
        chunk = asked[start : start + batch]
        chats = [[{"role": "user", "content": q}] for q in chunk]
        inputs = tokenizer.apply_chat_template(
            chats, add_generation_prompt=True, padding=True, return_tensors="pt", return_dict=True
        ).to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            out = model.generate(
                **inputs, max_new_tokens=new_tokens, do_sample=False, pad_token_id=tokenizer.pad_token_id
            )
        for question, ids in zip(chunk, out[:, inputs["input_ids"].shape[1] :].tolist(), strict=True):
            if tokenizer.eos_token_id in ids:
                answer = tokenizer.decode(ids[: ids.index(tokenizer.eos_token_id)]).strip()
                if answer:
                    pairs.append((question, answer))
    return pairs
