"""Which colour stands out at each position of a frame, in closed form: nothing is learned.

    images [N, 3, S, S] ─► cells in CIELAB ─┬─ far from the edge's cells? ── how much each stands out ─┐
                                            └─ near which named colour? ──── shares of colours ────────┴─► votes

A thing differs from what surrounds it, and is rarely at the frame's edge. The votes [N, P, colours] of a frame are
scaled so that their mean over positions is a distribution.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

# sRGB in 0..255; the last three are named only if they are twice as close as any of the first eight
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (220, 30, 35), "orange": (250, 135, 20), "yellow": (250, 220, 30), "green": (35, 160, 60),
    "blue": (35, 80, 220), "purple": (125, 45, 175), "black": (20, 20, 22), "white": (246, 246, 246),
    "grey": (128, 128, 128), "brown": (120, 75, 40), "pink": (245, 160, 190),
}  # fmt: skip
RARER, RARER_SHARE = ("grey", "brown", "pink"), 0.5
SPREAD, NEAR = 35.0, 15.0  # CIELAB distances: of what stands out, and between colours of one name
MIDDLE = 0.4  # width of the middle, as a share of the frame's side
DETAIL = 2  # cells of a position, across and down
NEIGHBOURS = 0.23  # of the cells at the edge, that must be alike for a cell not to stand out
FAINT = 0.02  # weight of a cell that does not stand out at all
CONTRAST = 1.5  # exponent of the weights
TO_XYZ = ((0.4124, 0.3576, 0.1805), (0.2126, 0.7152, 0.0722), (0.0193, 0.1192, 0.9505))  # sRGB, D65
WHITE = (0.9505, 1.0, 1.089)


def colour_votes(images: Tensor, grid: tuple[int, int]) -> Tensor:
    """f32[N, h·w, colours] of images f32[N, 3, H, W] in 0..1."""
    fine = (DETAIL * grid[0], DETAIL * grid[1])
    cells = F.adaptive_avg_pool2d(images.float(), fine).flatten(2).transpose(1, 2)  # [N, D²·P, 3]
    lab = cielab(cells)
    named = cielab(cells.new_tensor(list(COLOURS.values())) / 255)
    rarer = cells.new_tensor([RARER_SHARE if name in RARER else 1.0 for name in COLOURS])
    shares = (rarer.log() - _distances(lab, named) / NEAR).softmax(-1)
    weight = standing_out(lab, fine)
    votes = shares * (weight / weight.mean(1, keepdim=True))[..., None]
    return F.avg_pool2d(votes.transpose(1, 2).unflatten(2, fine), DETAIL).flatten(2).transpose(1, 2)


def standing_out(lab: Tensor, grid: tuple[int, int]) -> Tensor:
    """f32[N, P]: how much each cell differs from the cells at the edge, and how central it is."""
    rows, columns = grid
    places = [divmod(i, columns) for i in range(rows * columns)]
    outside = lab[:, [i for i, (y, x) in enumerate(places) if y in (0, rows - 1) or x in (0, columns - 1)]]
    alike = max(1, round(NEIGHBOURS * outside.shape[1]))
    apart = _distances(lab, outside).topk(alike, largest=False).values.mean(-1)
    off = lab.new_tensor([((y + 0.5) / rows - 0.5) ** 2 + ((x + 0.5) / columns - 0.5) ** 2 for y, x in places])
    middle = (-off / (2 * MIDDLE**2)).exp()
    return ((1 - (-(apart / SPREAD).square()).exp() + FAINT) * middle) ** CONTRAST


def cielab(rgb: Tensor) -> Tensor:
    """sRGB in 0..1 [..., 3] → CIELAB (CIE 15:2004, D65)."""
    rgb = rgb.clamp(0, 1)
    linear = torch.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    to_xyz, white = rgb.new_tensor(TO_XYZ), rgb.new_tensor(WHITE)
    xyz = (linear[..., None, :] * to_xyz).sum(-1) / white
    x, y, z = torch.where(xyz > 0.008856, xyz.clamp_min(1e-6) ** (1 / 3), 7.787 * xyz + 16 / 116).unbind(-1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)


def _distances(one: Tensor, other: Tensor) -> Tensor:
    """[..., P, 3] and [..., Q, 3] → [..., P, Q]."""
    return (one[..., :, None, :] - other[..., None, :, :]).square().sum(-1).sqrt()
