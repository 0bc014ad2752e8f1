"""Text-only samples: the base model's answers to short questions, so that training preserves its conversation."""

import itertools
import random
from typing import Any

import torch

TOPICS = (
    "the sea", "a dog", "rain", "music", "a garden", "the moon", "bread", "a train", "winter", "mathematics", "a river",
    "coffee", "a friend", "history", "the brain", "trees", "a bicycle", "painting", "sleep", "money", "a city", "birds",
    "computers", "the sun", "football", "a letter", "glass", "an island", "school", "a market", "space", "family",
    "gravity", "democracy", "a castle", "chess", "photosynthesis", "earthquakes", "honesty", "tea", "a doctor",
    "the law", "a recipe", "sport", "the internet", "a farm", "clouds", "a poem", "rice", "energy", "a language",
    "the weather", "an engine", "a holiday", "fear", "a job", "an atom", "a budget", "a fairy tale", "the ocean floor",
    "a hospital", "fire", "a kitchen", "wool", "a map", "an opera", "insects", "patience", "a battery", "soap",
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

HELD_OUT_TOPICS = (
    "a volcano", "snow", "a library", "the heart", "honey", "a bridge", "dreams", "an elephant", "electricity", "salt",
    "a lighthouse", "poetry", "volleyball", "a telescope", "the desert", "kindness", "a mirror", "paper", "bees",
)  # fmt: skip
HELD_OUT_ASKS = ("What should everyone know about {}?", "Say something nice about {}.", "What is {}, in short?")
# (question, answer written by a person)
HELD_OUT_PAIRS = [
    ("What do plants need to grow?", "Plants need light, water, air and nutrients from the soil."),
    ("Why is the sea salty?", "Rivers wash minerals out of the rocks and carry them to the sea, where they stay."),
    ("What is a verb?", "A verb is a word for an action or a state, such as run, think or be."),
    ("How can I fall asleep faster?", "Keep the room dark and cool, and put your phone away an hour before bed."),
    ("Name three fruits.", "Apples, bananas and oranges."),
    ("What does a baker do?", "A baker makes bread, rolls and cakes and sells them in a bakery."),
    ("Can you give me some advice for an exam?", "Start early, practise with old exams, and sleep well before it."),
    ("What is the opposite of cold?", "The opposite of cold is hot."),
    ("Why do we have seasons?", "The axis of the Earth is tilted, so each half gets more sun for part of the year."),
    ("How do I make tea?", "Boil water, pour it over the tea, wait three minutes, and take the leaves out."),
    ("What is a museum for?", "A museum keeps things that are worth remembering and shows them to visitors."),
    ("Who wrote Hamlet?", "William Shakespeare wrote Hamlet around the year 1600."),
]


def held_out_questions(seed: int = 0) -> list[str]:
    """Questions about other topics in other wordings than those of `questions`."""
    out = [a.format(t) for a, t in itertools.product(HELD_OUT_ASKS, HELD_OUT_TOPICS)]
    random.Random(seed).shuffle(out)
    return out


def questions(seed: int = 0) -> list[str]:
    out = [a.format(t) for a, t in itertools.product(ASKS, TOPICS)] + list(PLAIN)
    random.Random(seed).shuffle(out)
    return out


@torch.no_grad()
def distil(
    model: Any,
    tokenizer: Any,
    *,
    batch: int | None = None,
    new_tokens: int = 64,
    asked: list[str] | None = None,
    sampled: bool = False,
) -> list[tuple[str, str]]:
    """(question, answer) pairs of the model; answers longer than `new_tokens` are cut at a word.

    Answers are sampled from the model's distribution, or greedy.
    """
    device = next(model.parameters()).device
    batch = batch or (512 if device.type == "cuda" else 64)
    how: dict[str, Any] = {"do_sample": True, "temperature": 1.0, "top_k": 0} if sampled else {"do_sample": False}
    asked, pairs = questions() if asked is None else asked, []
    tokenizer.padding_side = "left"
    for start in range(0, len(asked), batch):
        chunk = asked[start : start + batch]
        chats = [[{"role": "user", "content": q}] for q in chunk]
        inputs = tokenizer.apply_chat_template(
            chats, add_generation_prompt=True, padding=True, return_tensors="pt", return_dict=True
        ).to(device)
        halved = device.type == "cuda" or torch.is_autocast_enabled(device.type)  # a caller's own stays in effect
        with torch.autocast(device.type, torch.bfloat16, enabled=halved):
            out = model.generate(**inputs, max_new_tokens=new_tokens, pad_token_id=tokenizer.pad_token_id, **how)
        for question, ids in zip(chunk, out[:, inputs["input_ids"].shape[1] :].tolist(), strict=True):
            ended = tokenizer.eos_token_id in ids
            answer = tokenizer.decode(ids[: ids.index(tokenizer.eos_token_id)] if ended else ids).strip()
            answer = answer if ended else answer.rpartition(" ")[0]
            if answer:
                pairs.append((question, answer))
    return pairs
