"""Pictures of measured tables. They need matplotlib: pip install 'sora_jax[plots]'."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from sora_jax.evaluation.capabilities import Capabilities, Mean, Row

_ARMS = {"model": ("tab:blue", "o"), "codec": ("tab:green", "|")}


def draw_capabilities(found: Capabilities, path: str) -> None:
    """Writes a PNG with a line a measure, from its floor (0) to its ceiling (1)."""
    figures = _matplotlib()
    rows = [row for row in found.rows if row.counts]
    figure = figures.Figure(figsize=(8, 1.2 + 0.26 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for line, row in enumerate(reversed(rows)):
        axes.plot([0, 1], [line, line], color="lightgrey", zorder=0)
        for arm, (colour, mark) in _ARMS.items():
            if arm in row.arms and row.arms[arm].count:
                middle, low, high = _placed(row, row.arms[arm])
                axes.plot([low, high], [line, line], color=colour)
                axes.plot(middle, line, mark, color=colour, label=arm if not line else None)
    names = [f"{row.suite}: {row.metric.name}" for row in reversed(rows)]
    axes.set_yticks(range(len(rows)), names)
    axes.set_xticks([0, 1], ["floor", "ceiling"])
    axes.set_xlim(-0.3, 1.15)
    axes.set_title(f"{found.model}: {found.samples} clips a suite", fontsize="small")
    axes.legend(loc="lower left")
    figure.savefig(path, dpi=120)


def _placed(row: Row, mean: Mean) -> tuple[float, float, float]:
    """A mean and the ends of its interval, between floor (0) and ceiling (1)."""
    floor, ceiling = row.arms[row.metric.floor].value, row.arms["ceiling"].value
    values = np.array([mean.value, mean.low, mean.high])
    placed = np.clip((values - floor) / (ceiling - floor), -0.25, 1.1)
    return float(placed[0]), float(placed[1:].min()), float(placed[1:].max())


def _matplotlib() -> Any:
    try:
        from matplotlib import figure
    except ImportError as error:
        raise ImportError("plots need matplotlib: pip install 'sora_jax[plots]'") from error
    return figure
