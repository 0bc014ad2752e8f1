"""Which colour stands out in a frame."""

import pytest
import torch
from torch import Tensor

from videollama2.colours import COLOURS, cielab, colour_votes

GRID = (12, 12)


def square(
    colour: str, behind: tuple[float, float, float], *, at: tuple[int, int] = (24, 24), side: int = 48
) -> Tensor:
    """f32[3, 96, 96] in 0..1: a square on a plain background."""
    image = torch.tensor(behind).view(3, 1, 1).expand(3, 96, 96).clone() / 255
    y, x = at
    image[:, y : y + side, x : x + side] = torch.tensor(COLOURS[colour]).view(3, 1, 1) / 255
    return image


def most(images: Tensor) -> list[str]:
    shares = colour_votes(images, GRID).mean(1)
    assert torch.allclose(shares.sum(-1), torch.ones(len(images)), atol=1e-5)  # a distribution
    return [list(COLOURS)[i] for i in shares.argmax(-1)]


@pytest.mark.parametrize("behind", [(150, 160, 175), (60, 90, 70), (235, 225, 205)])
def test_a_thing_in_the_middle_gives_the_colour_and_not_what_surrounds_it(behind: tuple[float, float, float]) -> None:
    named = [
        colour for colour in COLOURS if sum(abs(a - b) for a, b in zip(COLOURS[colour], behind, strict=True)) > 160
    ]
    assert len(named) >= 6
    assert most(torch.stack([square(colour, behind) for colour in named])) == named


def test_a_small_thing_off_the_middle_is_still_what_stands_out() -> None:
    assert most(square("red", (90, 120, 90), at=(14, 50), side=26)[None]) == ["red"]


@pytest.mark.parametrize("colour", ["red", "white", "brown"])
def test_where_nothing_stands_out_everything_has_a_say(colour: str) -> None:
    plain = (torch.tensor(COLOURS[colour]).view(1, 3, 1, 1) / 255).expand(1, 3, 50, 40)
    votes = colour_votes(plain, (5, 4))
    assert votes.shape == (1, 20, len(COLOURS)) and torch.isfinite(votes).all()
    assert list(COLOURS)[int(votes.mean(1).argmax())] == colour


def test_colours_are_compared_in_cielab() -> None:
    rgb = torch.tensor([[1.0, 0, 0], [1, 1, 1], [0, 0, 0], [0, 0, 1]])
    lab = [[53.24, 80.09, 67.2], [100, 0, 0], [0, 0, 0], [32.3, 79.19, -107.86]]  # CIE 15:2004
    assert torch.allclose(cielab(rgb), torch.tensor(lab), atol=0.1)


def test_half_precision_gives_the_same_names() -> None:
    images = torch.stack([square(colour, (150, 160, 175)) for colour in COLOURS if colour != "grey"])
    assert most(images.bfloat16()) == most(images)
