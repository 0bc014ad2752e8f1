"""Plots the curves of one or more runs from their metrics.jsonl: as a PNG, and as text for the terminal."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import MissingExtra, StorageError, UsageError
from .metrics import FILE, read_metrics


@dataclass(frozen=True)
class _Panel:
    """A diagram of one value of one kind of event; `noisy` curves are smoothed, and values multiplied by `scale`."""

    title: str
    event: str
    value: str
    log: bool = False
    noisy: bool = False
    scale: float = 1.0


PANELS = (
    _Panel("loss", "step", "loss", noisy=True),
    _Panel("loss on held-out data", "evaluation", "loss"),
    _Panel("learning rate", "step", "learning_rate"),
    _Panel("gradient norm", "step", "gradient_norm", log=True, noisy=True),
    _Panel("tokens per second", "step", "tokens_per_second", noisy=True),
    _Panel("padding (%)", "step", "padding_share", noisy=True, scale=100),
    _Panel("memory (GiB)", "step", "memory_bytes", scale=2**-30),
)
# Okabe and Ito's palette, distinguishable with colour blindness
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
BLOCKS = "▁▂▃▄▅▆▇█"
MAX_POINTS = 2000  # points per curve; more would not be visible
WIDTH = 60  # width of a text curve, in characters

Curve = tuple[list[int], list[float]]  # steps and values


def plot(runs: Sequence[str | Path], out: str | Path | None = None) -> Path:
    """Draw the curves of runs into one PNG.

    Args:
        runs: output folders of training runs.
        out: file to write; None: `curves.png` in the first run's folder.

    Returns:
        The file's path.

    Raises:
        UsageError: no runs, a folder without metrics, or no step yet.
        StorageError: the file can't be written.
        MissingExtra: matplotlib is not installed.
    """
    curves = {label: _curves(run) for label, run in _labelled(runs).items()}
    panels = [p for p in PANELS if any(p in drawn for drawn in curves.values())]
    path = Path(runs[0]) / "curves.png" if out is None else Path(out)
    figure = _draw(panels, curves)
    try:
        figure.savefig(path, dpi=150, format="png")
    except OSError as error:
        raise StorageError(
            f"{path} can't be written ({error.strerror or error}); choose another file with --out."
        ) from error
    return path


def sketch(runs: Sequence[str | Path]) -> str:
    """The curves as text, one line per run and diagram: from the first step to the last, with the extremes.

    Raises:
        UsageError: as `plot`.
    """
    lines = []
    for label, run in _labelled(runs).items():
        lines.append(label)
        for panel, (steps, values) in _curves(run).items():
            finite = [v for v in values if math.isfinite(v)]
            extremes = f"{min(finite):.4g} … {max(finite):.4g}, last {values[-1]:.4g}" if finite else "never finite"
            lines.append(f"  {panel.title:<21} {_bars(values)}  {extremes} (steps {steps[0]}–{steps[-1]})")
    return "\n".join(lines)


def _labelled(runs: Sequence[str | Path]) -> dict[str, Path]:
    """Legend label → run: the folder's name, or the path given where names are not unique."""
    if not runs:
        raise UsageError("no run to plot; pass the output folder of a training run.")
    paths = [Path(run) for run in runs]
    names = [p.resolve().name for p in paths]
    return {name if names.count(name) == 1 else str(path): path for name, path in zip(names, paths, strict=True)}


def _curves(run: Path) -> dict[_Panel, Curve]:
    """The run's curves, in the order of `PANELS`."""
    found: dict[_Panel, Curve] = {}
    for event in read_metrics(run):
        for panel in PANELS:
            value = event.get(panel.value)
            if event["event"] == panel.event and isinstance(value, int | float | str):
                steps, values = found.setdefault(panel, ([], []))
                steps.append(event["step"])
                values.append(_number(value, run) * panel.scale)
    if not found:
        raise UsageError(f"{run / FILE} has no step yet; wait for the first, or pass another run.")
    return {panel: found[panel] for panel in PANELS if panel in found}


def _number(value: int | float | str, run: Path) -> float:
    try:
        return float(value)  # "nan" and "inf" too
    except ValueError as error:
        raise UsageError(f"{run / FILE}: expected a number, got {value!r}; remove the line.") from error


def _draw(panels: Sequence[_Panel], curves: dict[str, dict[_Panel, Curve]]) -> Any:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtra("plotting requires matplotlib: pip install 'videollama2[train]'") from error
    columns = min(len(panels), 3)
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(4.6 * columns, 2.9 * rows + 0.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False).flat
    for axis, panel in zip(axes, panels, strict=False):
        for colour, (label, drawn) in zip(COLOURS * len(curves), curves.items(), strict=False):
            if panel in drawn:
                _curve(axis, panel, drawn[panel], colour, label)
        axis.set_title(panel.title, fontsize=10, loc="left")
        axis.set_xlabel("step", fontsize=8)
        axis.tick_params(which="both", labelsize=8)
        axis.grid(alpha=0.25, linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
        axis.margins(x=0.02)
    for axis in list(axes)[len(panels) :]:
        axis.set_visible(False)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=4, frameon=False, fontsize=9)
    return figure


def _curve(axis: Any, panel: _Panel, curve: Curve, colour: str, label: str) -> None:
    """Draw the values, pale under their running mean if noisy; crosses at the bottom mark values that aren't finite."""
    every = -(-len(curve[0]) // MAX_POINTS)
    steps, values = curve[0][::every], curve[1][::every]
    if panel.log and all(v > 0 for v in values if math.isfinite(v)):
        axis.set_yscale("log")
    finite = [v if math.isfinite(v) else math.nan for v in values]
    smooth = _smooth(finite) if panel.noisy and len(values) >= 20 else finite
    if smooth is not finite:
        axis.plot(steps, finite, color=colour, alpha=0.25, linewidth=0.8)
    marker = "o" if len(values) < 20 else None
    axis.plot(steps, smooth, color=colour, linewidth=1.6, marker=marker, markersize=3, label=label)
    not_finite = [s for s, v in zip(steps, values, strict=True) if not math.isfinite(v)]
    if not_finite:
        axis.plot(not_finite, [0.03] * len(not_finite), "x", color=colour, transform=axis.get_xaxis_transform())


def _smooth(values: Sequence[float]) -> list[float]:
    """Exponential moving average over about a twentieth of the run, unbiased at its start; NaNs are skipped."""
    keep = 1 - 1 / max(len(values) / 20, 1)
    total = weight = 0.0
    means = []
    for value in values:
        if not math.isnan(value):
            total, weight = keep * total + (1 - keep) * value, keep * weight + 1 - keep
        means.append(total / weight if weight else math.nan)
    return means


def _bars(values: Sequence[float]) -> str:
    """Means of equal ranges as blocks of eight heights; × where no value is finite."""
    count = min(len(values), WIDTH)
    means = []
    for i in range(count):
        stretch = values[i * len(values) // count : (i + 1) * len(values) // count]
        finite = [v for v in stretch if math.isfinite(v)]
        means.append(sum(finite) / len(finite) if finite else math.nan)
    known = [m for m in means if not math.isnan(m)]
    low, span = (min(known), max(known) - min(known)) if known else (0.0, 0.0)
    heights = [0 if math.isnan(m) else round((m - low) / span * 7) if span else 0 for m in means]
    return "".join("×" if math.isnan(m) else BLOCKS[h] for m, h in zip(means, heights, strict=True))
