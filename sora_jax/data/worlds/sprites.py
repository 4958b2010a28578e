"""The world of sprites: one coloured shape that moves, or not, over a plain ground.

Clip `index` of a source is a pure function of (seed, index): it can be read at any rate and from
any frame, and its captions say exactly what is seen. The shape never leaves the picture.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np
from jaxtyping import Float, UInt8

from sora_jax.arrays import Size
from sora_jax.data.datasets import Broken, Caption, Record, frames_at
from sora_jax.data.video import Rate

Kind = Literal["circle", "square", "triangle"]
Motion = Literal["left", "right", "up", "down", "still"]

COLOURS = {
    "red": (220, 30, 30),
    "green": (30, 160, 50),
    "blue": (40, 70, 220),
    "yellow": (250, 210, 40),
}
GROUNDS = {"black": (10, 10, 10), "grey": (130, 130, 130), "white": (245, 245, 245)}
KINDS: tuple[Kind, ...] = ("circle", "square", "triangle")
MOTIONS: tuple[Motion, ...] = ("left", "right", "up", "down", "still")

# The least and the greatest radius, and where a shape begins to be called large, as parts of the
# shorter side of the picture.
_RADII = (0.1, 0.2)
_LARGE = 0.15


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sprite:
    """The exact state of a clip.

    radius      as a part of the shorter side of the picture.
    start, end  (down, across), where the centre is at the beginning and at the end of the clip, as
                parts of the way that it has without leaving the picture: 0 touches the top or the
                left edge, 1 the bottom or the right one.
    """

    kind: Kind
    colour: str
    ground: str
    motion: Motion
    radius: float
    start: tuple[float, float]
    end: tuple[float, float]


def draw(seed: int, index: int) -> Sprite:
    """The sprite of a clip. If it moves, then half of its way at least."""
    rng = np.random.default_rng((seed, index))
    motion = MOTIONS[rng.integers(len(MOTIONS))]
    travel = rng.uniform(0.5, 1.0)
    near, across = rng.uniform(0, 1 - travel), rng.uniform(0, 1)
    start, end = {
        "left": ((across, near + travel), (across, near)),
        "right": ((across, near), (across, near + travel)),
        "up": ((near + travel, across), (near, across)),
        "down": ((near, across), (near + travel, across)),
        "still": ((near + travel / 2, across), (near + travel / 2, across)),
    }[motion]
    return Sprite(
        kind=KINDS[rng.integers(len(KINDS))],
        colour=list(COLOURS)[rng.integers(len(COLOURS))],
        ground=list(GROUNDS)[rng.integers(len(GROUNDS))],
        motion=motion,
        radius=rng.uniform(*_RADII),
        start=start,
        end=end,
    )


def captions(sprite: Sprite, frames: int) -> tuple[Caption, ...]:
    """A short and a descriptive caption; those of a single frame are silent about motion."""
    thing, ground = f"{sprite.colour} {sprite.kind}", f"{sprite.ground} ground"
    moves = "stands still" if sprite.motion == "still" else f"moves {sprite.motion}"
    course = (
        "stays there" if sprite.motion == "still" else f"moves {sprite.motion} at an even speed"
    )
    size = "large" if sprite.radius >= _LARGE else "small"
    place = f"a {size} {thing} is at the {_place(sprite.start)}"
    if frames == 1:
        short, long = f"a {thing} on a {ground}", f"on a plain {ground}, {place}"
    else:
        short = f"a {thing} {moves} on a {ground}"
        long = f"on a plain {ground}, {place} at first, and it {course}"
    return Caption(text=short), Caption(text=long, kind="descriptive")


def render(
    sprite: Sprite, progress: Float[np.ndarray, " frames"], *, height: int, width: int
) -> UInt8[np.ndarray, "frames {height} {width} 3"]:
    """The pictures at points of a clip, 0 its beginning and 1 its end, with soft edges."""
    radius = sprite.radius * min(height, width)
    start, end = np.asarray(sprite.start), np.asarray(sprite.end)
    way = np.asarray([height, width]) - 2 * radius
    centre = radius + way * (start + (end - start) * progress[:, None])
    centre = centre.astype(np.float32)
    down = np.arange(height, dtype=np.float32)[:, None] + 0.5 - centre[:, 0, None, None]
    across = np.arange(width, dtype=np.float32) + 0.5 - centre[:, 1, None, None]
    cover = np.clip(_depth(sprite.kind, down, across, radius) + 0.5, 0, 1)[..., None]
    colour = np.asarray(COLOURS[sprite.colour], np.float32)
    ground = np.asarray(GROUNDS[sprite.ground], np.float32)
    return np.round(ground + cover * (colour - ground)).astype(np.uint8)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sprites:
    """A source of `clips` clips, which go through `sizes` in turn. One of one frame is an image."""

    clips: int = 1000
    seed: int = 0
    sizes: tuple[Size, ...] = (Size(17, 64, 64),)
    fps: float = 8.0

    def open(self) -> OpenedSprites:
        """Writes the manifest. Raises ValueError if there is no size."""
        if not self.sizes:
            raise ValueError("a world of sprites needs at least one size")
        return OpenedSprites(
            source=self, records=tuple(self._record(index) for index in range(self.clips))
        )

    def _record(self, index: int) -> Record:
        frames, height, width = self.sizes[index % len(self.sizes)]
        return Record(
            name=f"sprites/{self.seed}/{index:08d}",
            frames=frames,
            height=height,
            width=width,
            fps=self.fps if frames > 1 else 0.0,
            captions=captions(draw(self.seed, index), frames),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class OpenedSprites:
    """See `datasets.OpenedSource`."""

    source: Sprites
    records: tuple[Record, ...]
    broken: tuple[Broken, ...] = ()

    def read(
        self, index: int, start: int, count: int, *, fps: Rate | None = None
    ) -> UInt8[np.ndarray, "frames height width 3"]:
        """Up to `count` frames from `start` on, drawn for their times at the rate `fps`."""
        record = self.records[index]
        steps = np.arange(start, min(start + count, frames_at(record, fps)))
        progress = steps / ((fps or record.fps or 1.0) * (record.seconds or 1.0))
        sprite = draw(self.source.seed, index)
        return render(sprite, progress, height=record.height, width=record.width)


def _place(start: tuple[float, float]) -> str:
    """In which ninth of the way a shape is, in words."""
    down = ("top", "", "bottom")[min(2, int(start[0] * 3))]
    across = ("left", "", "right")[min(2, int(start[1] * 3))]
    return f"{down} {across}".strip() or "centre"


def _depth(
    kind: Kind,
    down: Float[np.ndarray, "frames height 1"],
    across: Float[np.ndarray, "frames 1 width"],
    radius: float,
) -> Float[np.ndarray, "frames height width"]:
    """How many pixels inside the edge of the shape a place is; negative outside."""
    aside = np.abs(across)
    if kind == "circle":
        return radius - np.hypot(down, aside)
    if kind == "square":
        return radius * 0.85 - np.maximum(np.abs(down), aside)
    # Its tip is one radius above the centre, its base four fifths of one below, two radii wide.
    slope = (down + radius - 1.8 * aside) / np.hypot(1, 1.8)
    return np.minimum(slope, radius * 0.8 - down + 0 * aside)
