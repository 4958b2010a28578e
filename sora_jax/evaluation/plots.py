"""Pictures of measured tables. They need matplotlib: pip install 'sora_jax[plots]'."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sora_jax.data.video import check_folder
from sora_jax.evaluation.table import LEAST

if TYPE_CHECKING:
    from sora_jax.evaluation.statistics import Mean
    from sora_jax.evaluation.table import Capabilities, Row

_ARMS = {"model": ("tab:blue", "o"), "codec": ("tab:green", "|")}
_FLOORS = {"shuffled": "x", "frozen": "+", "crossed": "."}
_LEFT, _RIGHT = -0.25, 1.1


_FORMATS = (".png", ".svg", ".pdf")


def check_plot(path: str, *, samples: int | None = None) -> None:
    """Raises what `draw_capabilities` would raise, before the work: ValueError for a file of no
    picture or too few samples, FileNotFoundError for its folder, ImportError for matplotlib."""
    if Path(path).suffix.lower() not in _FORMATS:
        raise ValueError(f"{path}: a drawing is one of {', '.join(_FORMATS)}")
    if samples is not None and samples < LEAST:
        raise ValueError(
            f"{path}: of {samples} samples no measure counts, so that there is nothing to draw; "
            f"take {LEAST} or more"
        )
    check_folder(path)
    matplotlib()


def draw_capabilities(found: Capabilities, path: str) -> None:
    """Writes a picture: a line for each measure that counts, from its floor (0) to its ceiling (1).

    In grey are the floors that all measures have in common. What lies beyond the picture is drawn
    at its edge, of model and codec as a triangle. Raises ValueError where none counts, and
    ImportError, with what to install, where matplotlib is missing.
    """
    figure_module, lines_module = matplotlib()
    rows = [row for row in reversed(found.rows) if row.counts]
    if not rows:
        raise ValueError("no measure counts, so there is nothing to draw; take more samples")
    figure = figure_module.Figure(figsize=(8, 1.4 + 0.26 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for line, row in enumerate(rows):
        axes.plot([0, 1], [line, line], color="lightgrey", zorder=0)
        for arm, mark in _FLOORS.items():
            if row.arms[arm].count:
                place = np.clip(_placed(row, row.arms[arm])[0], _LEFT, _RIGHT)
                axes.plot(place, line, mark, color="grey", zorder=1)
        for arm, (colour, mark) in _ARMS.items():
            if arm in row.arms and row.arms[arm].count:
                middle, low, high = _placed(row, row.arms[arm])
                inner = np.clip([low, high], _LEFT, _RIGHT)
                axes.plot(inner, [line, line], color=colour)
                beyond = "<" if middle < _LEFT else ">" if middle > _RIGHT else mark
                axes.plot(np.clip(middle, _LEFT, _RIGHT), line, beyond, color=colour)
    axes.set_yticks(range(len(rows)), [_label(row) for row in rows])
    axes.set_ylim(-0.7, len(rows) - 0.3)
    axes.set_xticks([0, 1], ["floor", "ceiling"])
    axes.set_xlim(_LEFT - 0.05, _RIGHT + 0.05)
    axes.set_title(found.title, fontsize="small")
    marks = _ARMS | {arm: ("grey", mark) for arm, mark in _FLOORS.items()}
    handles = [
        lines_module.Line2D([], [], color=colour, marker=mark, label=arm)
        for arm, (colour, mark) in marks.items()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    figure.savefig(path, dpi=120)


def _label(row: Row) -> str:
    """Of its line."""
    return f"{row.suite}: {row.metric.name}{' (a still clip wins)' if row.still_wins else ''}"


def _placed(row: Row, mean: Mean) -> tuple[float, float, float]:
    """A mean and the ends of its interval, where the floor is 0 and the ceiling 1."""
    floor, ceiling = row.arms[row.metric.floor].value, row.arms["ceiling"].value
    placed = (np.array([mean.value, mean.low, mean.high]) - floor) / (ceiling - floor)
    return float(placed[0]), float(placed[1:].min()), float(placed[1:].max())


def matplotlib() -> tuple[Any, Any]:
    """Its modules of figures and lines. Raises ImportError, with what to install, if missing."""
    try:
        from matplotlib import figure, lines
    except ImportError as error:
        raise ImportError("plots need matplotlib: pip install 'sora_jax[plots]'") from error
    return figure, lines
