"""Does a clip show what its caption says: the kind, colour, motion and place of one shape?

And of that one alone.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy import ndarray

from sora_jax.arrays import Size
from sora_jax.data.worlds.palette import COLOURS
from sora_jax.data.worlds.seeing import Seen
from sora_jax.data.worlds.shapes import KINDS
from sora_jax.data.worlds.sprites import WAYS, Motion, Scene, Sprites, short_caption, slots_of
from sora_jax.data.worlds.world import Frames, World
from sora_jax.evaluation.suite import SIZE, Case, Metric

# Less than this part of the shorter side, from beginning to end, is standing still.
_STILL = 0.04
# How far from even motion (RMS) a thing may be, as a part of its way. What stands still for half of
# its clip and then goes is off by 0.14, what jumps in the last of 17 frames by 0.7.
_UNEVEN = 0.1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Text:
    """One shape, all its slots said: four, and three of a still picture, which says no motion.

    held_out   ask for combinations that training never saw.
    described  ask by the descriptive caption, which says size, spot and speed as well.
    """

    held_out: bool = False
    described: bool = False
    size: Size = SIZE
    truths = 1

    @property
    def name(self) -> str:
        parts = ("text", self.held_out and "held_out", self.described and "described")
        return "_".join(part for part in parts if part)

    @property
    def least(self) -> int:
        return 3 if self.size.frames > 1 else 1

    @property
    def world(self) -> World:
        return Sprites(most=1, held_out=self.held_out)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        about = {
            "colour": "the largest thing, seen in most frames, has the colour that is asked for",
            "shape": "in most frames it is seen and has the shape that is asked for",
            "motion": "it is seen in most frames, and moves evenly as is asked for",
            "place": "the ground is the one that is asked for",
            "all": "all of these are right",
            "alone": "in most frames there is one thing and no other",
        }
        if self.size.frames == 1:
            del about["motion"]
        return tuple(
            Metric(
                name=name,
                better="high",
                # Clips of other prompts have one thing alone, too.
                floor="doubled" if name == "alone" else "crossed",
                about=text,
                yes_no=True,
            )
            for name, text in about.items()
        )

    def caption(self, scene: Scene, rng: np.random.Generator) -> str:
        if self.described:
            return self.world.captions(scene, rng)[1].text
        return short_caption(slots_of(scene, rng, said=1.0), rng)

    def scores(self, case: Case, frames: Frames) -> dict[str, float]:
        seen: Seen = case.world.read(frames)
        (asked,) = case.scene.sprites
        still = len(frames) == 1
        right: dict[str, bool] = dict.fromkeys(("colour", "shape", "motion"), False)
        areas = seen.area.sum(0)
        if areas.any():
            colour = int(areas.argmax())
            # Of all frames: what is there for a moment is not what was asked for.
            there = seen.visible[:, colour]
            shaped = there & (seen.kind[:, colour] == KINDS.index(asked.kind))
            lasts = bool(there.mean() > 0.5)
            motion = motion_of(seen.centre[:, colour], side=min(frames.shape[1:3]))
            right = {
                "colour": lasts and list(COLOURS)[colour] == asked.colour,
                "shape": bool(shaped.mean() > 0.5),
                "motion": lasts and motion == asked.motion,
            }
        right["place"] = seen.place == case.scene.place
        if still:
            del right["motion"]
        told = right | {
            "all": all(right.values()),
            "alone": bool(np.mean(seen.count.sum(1) == 1) > 0.5),
        }
        return {name: float(value) for name, value in told.items()}


def motion_of(centre: ndarray, *, side: int) -> Motion | None:
    """The motion of a thing from its centres [frames, 2] in pixels, NaN where it is not seen.

    side  the shorter one of the picture, in pixels.

    The direction of the even motion (a straight line at one speed) that fits the centres best, that
    of its longer component; less than `_STILL` in all is standing still. None for what is never
    seen, and for what is far from even, by `_UNEVEN`: what jumps, turns round in the middle, or
    stands still for half of the time. A shorter rest passes.
    """
    times = np.flatnonzero(~np.isnan(centre[:, 0]))
    if not len(times):
        return None
    where = centre[times] / side
    moments = np.stack([np.ones(len(times)), times], 1)
    fit = np.linalg.lstsq(moments, where, rcond=None)[0]
    way = fit[1] * (times[-1] - times[0])
    off = float(np.sqrt(((where - moments @ fit) ** 2).sum(1).mean()))
    if off > max(_UNEVEN * np.abs(way).max(), _STILL / 4):
        return None
    if np.abs(way).max() < _STILL:
        return "still"
    axis = int(np.abs(way).argmax())
    main = tuple(int(np.sign(way[axis])) if place == axis else 0 for place in (0, 1))
    return next(name for name, direction in WAYS.items() if direction == main)
