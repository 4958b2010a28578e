"""The world of the occluder: one or two shapes pass behind an opaque bar and come out again.

Each moves to the left or to the right at constant speed, is wholly hidden for a while and then is
there again, the same and in time: wholly hidden from `enters` on, it has come out wholly at
enters + bar width / speed. `occluder_scene.passage_of` tells these times; those of a model's clips
can be compared to them, by how long the shape was hidden.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, Int

from sora_jax.data.datasets import Caption
from sora_jax.data.worlds.occluder_scene import Scene, anything
from sora_jax.data.worlds.occluder_words import described, short_caption
from sora_jax.data.worlds.palette import COLOURS, PLACES
from sora_jax.data.worlds.seeing import Blob, Shares, blobs, kind_of, place_of, unmixed_over
from sora_jax.data.worlds.shapes import CENTROID, KINDS, Canvas, blank, depth_of, finished, paint
from sora_jax.data.worlds.world import Frames, Setting, Times, check_most

BAR = (0, 225, 225)
"""Cyan, the bar's colour: 100 levels and more from every colour and every place."""

HIDDEN, PARTLY, WHOLLY = 0, 1, 2
"""How much is seen of a thing; what a scene does not have is hidden all the time."""

# Up to so much of a thing may look like nothing, in pixels across.
_SLIVER = 4.5
# So near to its edge, in pixels, the bar may or may not cover a bit of a thing.
_COVERED, _CLEAR = 1.0, 2.0
# So near to the bar a thing that is seen is taken to be partly hidden.
_NEAR = 1.3
_FIT = 0.6


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class State:
    """What is seen, of each colour of the palette at most one thing.

    place   the ground's name.
    bar     left and right edge of the bar in pixels; NaN where there is none.
    view    HIDDEN, PARTLY or WHOLLY.
    sure    whether `view` and what follows from it is promised to be read as it is. Not so where an
            edge of the thing is within about two pixels of an edge of the bar, or a sliver of up to
            4.5 pixels sticks out. What is read is always sure.
    kind    index into KINDS where a thing is seen wholly; else -1, or where it fits no shape.
    centre  (down, across) of its centre of mass in pixels where it is seen wholly; else NaN.
    """

    place: str
    bar: Float[np.ndarray, "frames 2"]
    view: Int[np.ndarray, "frames colours"]
    sure: Bool[np.ndarray, "frames colours"]
    kind: Int[np.ndarray, "frames colours"]
    centre: Float[np.ndarray, "frames colours 2"]

    @classmethod
    def nothing(cls, place: str, bar: Float[np.ndarray, "frames 2"]) -> State:
        """A bar and nothing else, to be filled in."""
        count = (len(bar), len(COLOURS))
        return cls(
            place=place,
            bar=bar,
            view=np.full(count, HIDDEN),
            sure=np.ones(count, bool),
            kind=np.full(count, -1),
            centre=np.full((*count, 2), np.nan),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Occluder:
    """The world.

    most  shapes in a scene: one of 1..most (at most 2), each as likely.
    said  how likely each slot is said in a short caption.
    """

    most: int = 2
    said: float = 0.85

    def __post_init__(self) -> None:
        check_most("occluder", self.most, greatest=2)

    @property
    def name(self) -> str:
        return "occluder"

    def scene(self, rng: np.random.Generator, setting: Setting) -> Scene:
        return anything(rng, setting, count=1 + int(rng.integers(self.most)))

    def captions(self, scene: Scene, rng: np.random.Generator) -> tuple[Caption, ...]:
        short = short_caption(scene, rng, said=self.said)
        return Caption(text=short), Caption(text=described(scene, rng), kind="descriptive")

    def render(self, scene: Scene, times: Times, *, height: int, width: int) -> Frames:
        side = min(height, width)
        canvas = blank(PLACES[scene.place], len(times), height=height, width=width)
        for mover in scene.movers:
            radius = mover.radius * side
            paint(
                canvas,
                depth_of(mover.kind, radius),
                COLOURS[mover.colour],
                centre=mover.at(times) * side,
                reach=radius,
            )
        _draw_bar(canvas, scene.bar[0] * side, scene.bar[1] * side)
        return finished(canvas)

    def truth(self, scene: Scene, times: Times, *, height: int, width: int) -> State:
        side = min(height, width)
        state = State.nothing(scene.place, np.tile(np.asarray(scene.bar) * side, (len(times), 1)))
        for mover in scene.movers:
            colour, centre = list(COLOURS).index(mover.colour), mover.at(times) * side
            half, (left, right) = mover.half * side, state.bar.T
            out = np.maximum(left - centre[:, 1] + half, centre[:, 1] + half - right)
            wholly = out >= 2 * half
            state.view[:, colour] = np.where(wholly, WHOLLY, np.where(out > 0, PARTLY, HIDDEN))
            partly = (out >= _SLIVER) & (out <= 2 * half - _COVERED)
            state.sure[:, colour] = (out <= 0) | partly | (out >= 2 * half + _CLEAR)
            state.kind[wholly, colour] = KINDS.index(mover.kind)
            below = CENTROID[mover.kind] * mover.radius * side
            state.centre[wholly, colour] = centre[wholly] + (below, 0)
        return state

    def read(self, frames: Frames) -> State:
        place = place_of(frames)
        labels, shares = unmixed_over(frames, place, BAR)
        state = State.nothing(place, _edges(np.where(labels == len(COLOURS), shares, 0)))
        for colour in np.setdiff1d(labels, (-1, len(COLOURS))):
            for frame, (label, share) in enumerate(zip(labels, shares, strict=True)):
                things = blobs(np.where(label == colour, share, 0))
                if things and _clear(things[0], state.bar[frame]):
                    kind, fits = kind_of(things[0])
                    state.view[frame, colour] = WHOLLY
                    state.kind[frame, colour] = KINDS.index(kind) if fits >= _FIT else -1
                    state.centre[frame, colour] = things[0].centre
                elif things:
                    state.view[frame, colour] = PARTLY
        return state


def _draw_bar(canvas: Canvas, left: float, right: float) -> None:
    """From top to bottom, over what is there, with edges one pixel wide."""
    columns = slice(max(0, int(left - 1)), int(right + 2))
    middles = np.arange(canvas.shape[2])[columns] + 0.5
    cover = np.clip(np.minimum(middles - left, right - middles) + 0.5, 0, 1).astype(np.float32)
    under = canvas[:, :, columns]
    canvas[:, :, columns] += cover[:, None] * (np.asarray(BAR, np.float32) - under)


def _edges(share: Shares) -> Float[np.ndarray, "frames 2"]:
    """Left and right edge of the bar that covers so much of each pixel; NaN where there is none.

    Half the rows tell: a shape beside the bar may be taken for a bit of it, but not in them all.
    """
    edges = np.full((len(share), 2), np.nan)
    for frame, cover in enumerate(np.median(share, axis=1)):
        runs = np.flatnonzero(np.diff(np.concatenate([[0], cover > 0.5, [0]]))).reshape(-1, 2)
        if len(runs):
            start, stop = runs[np.diff(runs)[:, 0].argmax()]
            middle = (start + stop) // 2
            # With the next pixels, which may hold parts of the edges.
            edges[frame, 0] = middle - cover[max(0, start - 1) : middle].sum()
            edges[frame, 1] = middle + cover[middle : stop + 1].sum()
    return edges


def _clear(blob: Blob, bar: Float[np.ndarray, "2"]) -> bool:
    """Whether there is ground between a thing and the bar."""
    columns = np.flatnonzero((blob.share > 0.5).any(0))
    gap = max(bar[0] - columns[-1] - 1, columns[0] - bar[1])
    return bool(np.isnan(gap) or gap > _NEAR)
