"""What is seen in the world of the painter, and how well a brush and its strokes agree."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from scipy import ndimage

from sora_jax.data.worlds.painter_strokes import BRUSH, CORE, distance
from sora_jax.data.worlds.palette import COLOURS, PLACES, levels
from sora_jax.data.worlds.seeing import Share, centre_of, place_of, thick, unmixed
from sora_jax.data.worlds.world import Frames

DARK = PLACES["night"]

_LEAST = 0.4
"""The least part of their true areas that makes something a brush or its core."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Painted:
    """A canvas in each frame.

    visible  whether the brush is seen, where it is (down, across) and which of COLOURS its core
             has; NaN and -1 where it is not seen.
    strokes  which pixels each of COLOURS covers by more than a half. Under the brush and within a
             pixel of it none are told. Read of a render they have an IoU of 0.9 with the truth,
             where they are 0.02 squared shorter sides or more.
    """

    place: str
    visible: Bool[np.ndarray, " frames"]
    centre: Float[np.ndarray, "frames 2"]
    colour: Int[np.ndarray, " frames"]
    strokes: Bool[np.ndarray, "frames colours height width"]

    @property
    def area(self) -> Int[np.ndarray, "frames colours"]:
        """Pixels in the strokes of each colour."""
        return self.strokes.sum((2, 3))


def rim_of(place: str) -> tuple[int, int, int]:
    """The colour of the brush's rim on a canvas: white, or dark where that would not be seen."""
    return DARK if place in ("snow", "sand") else COLOURS["white"]


def clear_of(
    centre: Float[np.ndarray, "frames 2"], *, height: int, width: int
) -> Bool[np.ndarray, "frames height width"]:
    """Which pixels the brush leaves to be seen."""
    return distance(centre, height=height, width=width) > BRUSH * min(height, width) + 1


def seen(frames: Frames) -> Painted:
    """Reads a state from pictures."""
    place, (height, width) = place_of(frames), frames.shape[1:3]
    rim = np.asarray(rim_of(place), np.float32)
    paints = levels(COLOURS)[:-1]
    labels, shares = unmixed(frames, PLACES[place], np.stack([*paints, rim]))
    tip = np.where(labels == len(paints), shares, 0)
    found = [_brush(*each, rim) for each in zip(frames, tip, strict=True)]
    centre = np.array([each[0] for each in found], np.float64)
    colour = np.array([each[1] for each in found])
    away = clear_of(np.nan_to_num(centre, nan=-1e3), height=height, width=width)
    strokes = np.zeros((len(frames), len(COLOURS), height, width), bool)
    for paint in np.unique(labels[(labels >= 0) & (labels < len(paints))]):
        share = np.where((labels == paint) & away, shares, 0)
        # The brush's own colours are believed however thin; others only where they are thick.
        if paint not in colour:
            share = np.stack([thick(each) for each in share])
        strokes[:, paint] = share > 0.5
    visible = colour >= 0
    return Painted(place=place, visible=visible, centre=centre, colour=colour, strokes=strokes)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Interaction:
    """How a brush and strokes act on each other in a clip, each 0..1; NaN where nothing tells.

    persistence  IoU of the strokes of one frame with those of the next, away from the brush.
    vanished     what part of the strokes is no stroke in the next frame, away from the brush.
    phantom      what part of the strokes was none in the frame before, away from the brush.
    creation     how often the place where the brush was, when it has gone on, has the colour that
                 the brush had there or, where it has painted over it, since; and had none of these
                 colours when the brush first came. Places where it begins tell nothing.
    """

    persistence: float
    vanished: float
    phantom: float
    creation: float


def interaction(state: Painted, *, reach: float = 1.4 * BRUSH) -> Interaction:
    """Measures a state. Perfect is (1, 0, 0, 1).

    reach  what is this near the brush in either frame does not count, as a part of the shorter
           side. A true brush changes nothing further away than 0.11 between frames at 8 a second.
    """
    height, width = state.strokes.shape[2:]
    near = reach * min(height, width)
    # Where no brush is seen, no place is near it.
    centre = np.nan_to_num(state.centre, nan=-1e3)
    away = distance(centre, height=height, width=width) > near
    both = (away[1:] & away[:-1])[:, None]
    before, after = state.strokes[:-1] & both, state.strokes[1:] & both
    any_before, any_after = before.any(1), after.any(1)
    return Interaction(
        persistence=_part((before & after).sum(), (before | after).sum()),
        vanished=_part((any_before & ~any_after).sum(), any_before.sum()),
        phantom=_part((any_after & ~any_before).sum(), any_after.sum()),
        creation=_creation(state, centre, near),
    )


def _creation(state: Painted, centre: Float[np.ndarray, "frames 2"], near: float) -> float:
    """Of the places of the brush that it came to and left: how many it made one of its colours."""
    height, width = state.strokes.shape[2:]
    # A pixel beyond those that the brush hides.
    hidden = BRUSH * min(height, width) + 2
    made = []
    for frame in np.flatnonzero(state.visible):
        far = np.hypot(*(centre - centre[frame]).T)
        came, left = int((far <= hidden).argmax()), np.flatnonzero(far[frame:] > near)
        if not came or not len(left):
            continue
        later = frame + int(left[0])
        row, column = (
            int(np.clip(place, 0, size - 1))
            for place, size in zip(centre[frame], (height, width), strict=True)
        )
        colours = state.colour[frame:later]
        colours = colours[colours >= 0]
        was, now = (state.strokes[at, colours, row, column].any() for at in (came - 1, later))
        made.append(now and not was)
    return float(np.mean(made)) if made else float("nan")


def _part(part: np.integer, whole: np.integer) -> float:
    return float(part / whole) if whole else float("nan")


def _brush(
    frame: UInt8[np.ndarray, "height width 3"], tip: Share, rim: Float[np.ndarray, "3"]
) -> tuple[tuple[float, float], int]:
    """Where the brush is in one picture and its colour; (NaN, NaN) and -1 for none.

    The core has the rim all around, so its centre is not pulled to the side where the stroke is.
    """
    nowhere = (float("nan"), float("nan")), -1
    side = min(tip.shape)
    labelled: Any = ndimage.label(tip > 0.5, np.ones((3, 3)))
    names, count = labelled
    if not count:
        return nowhere
    largest = names == 1 + np.bincount(names.ravel())[1:].argmax()
    whole = np.asarray(ndimage.binary_fill_holes(largest), np.float32)
    if whole.sum() < _LEAST * np.pi * (BRUSH * side) ** 2:
        return nowhere
    rough = distance(centre_of(whole)[None], height=tip.shape[0], width=tip.shape[1])[0]
    within = rough < (BRUSH + CORE) / 2 * side
    labels, shares = unmixed(frame[None], rim, levels(COLOURS)[:-1])
    label, share = labels[0], shares[0]
    areas = np.bincount(label[within] + 1, share[within], minlength=len(COLOURS))[1:]
    if areas.max() < _LEAST * np.pi * (CORE * side) ** 2:
        return nowhere
    colour = int(areas.argmax())
    down, across = centre_of(np.where(within & (label == colour), share, 0))
    return (float(down), float(across)), colour
