"""nano itself, in each dtype that a machine may choose, on the clips that README.md asks about."""

from pathlib import Path
from typing import Any

import pytest

import videollama2

EXAMPLES = Path(__file__).parents[1] / "examples"
ANSWERS = {
    "clip.mp4": ("I see a penguin, and I hear a xylophone.", ("penguin", "xylophone")),
    "photograph.mp4": ("I see espresso, and I hear a crow.", ("espresso", "crow")),
}


@pytest.mark.nano
@pytest.mark.parametrize("options", [{"dtype": "float32"}, {"dtype": "bfloat16"}, {"fp16_weights": True}], ids=str)
def test_it_answers_as_in_the_readme(options: dict[str, Any]) -> None:
    """In bfloat16 it names the same; its words may differ from one CPU to another."""
    readme = (EXAMPLES.parent / "README.md").read_text(encoding="utf-8")
    engine = videollama2.load("nano", device="cpu", **options)
    for clip, (expected, names) in ANSWERS.items():
        answer = engine.answer(EXAMPLES / clip, "What do you see and hear?")
        assert expected in readme
        assert answer.text == expected or (options == {"dtype": "bfloat16"} and all(n in answer.text for n in names))
        assert answer.receipt.dtype == options.get("dtype", "float32") and answer.receipt.audio.state == "used"
