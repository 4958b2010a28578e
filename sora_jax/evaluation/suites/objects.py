"""Do things come from nowhere, vanish, or turn into others? Counted where nothing may do so."""

from __future__ import annotations

import dataclasses

import numpy as np

from sora_jax.data.worlds.balls import Balls, fall_residual
from sora_jax.data.worlds.balls_flight import GRAVITY
from sora_jax.data.worlds.seeing import Seen
from sora_jax.data.worlds.sprites import Sprites
from sora_jax.data.worlds.world import Frames, World
from sora_jax.evaluation.suite import FPS, SIZE, Case, Described, Metric

# More than this part of the shorter side from a frame to the next is a jump.
_JUMP = 0.15


@dataclasses.dataclass(frozen=True, kw_only=True)
class Objects(Described):
    """Up to three shapes that never leave the picture nor hide one another."""

    name = "objects"
    size = SIZE

    @property
    def world(self) -> World:
        return Sprites()

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return (
            Metric(
                name="births", better="low", floor="spliced", about="things that appear, 100 frames"
            ),
            Metric(
                name="deaths", better="low", floor="spliced", about="things that vanish, 100 frames"
            ),
            Metric(
                name="until_violation",
                better="high",
                floor="shuffled",
                about="share of the clip before the first of these, a change of shape, or a jump",
            ),
        )

    def scores(self, case: Case, frames: Frames) -> dict[str, float]:
        seen: Seen = case.world.read(frames)
        births = (seen.visible[1:] & ~seen.visible[:-1]).sum(1)
        deaths = (seen.visible[:-1] & ~seen.visible[1:]).sum(1)
        known = (seen.kind[1:] >= 0) & (seen.kind[:-1] >= 0)
        changes = (known & (seen.kind[1:] != seen.kind[:-1])).sum(1)
        ways = np.linalg.norm(np.diff(seen.centre, axis=0), axis=-1) / min(frames.shape[1:3])
        jumps = (np.nan_to_num(ways) > _JUMP).any(1)
        violated = np.flatnonzero((births > 0) | (deaths > 0) | (changes > 0) | jumps)
        steps = len(frames) - 1
        if not seen.visible.any():
            return dict.fromkeys((metric.name for metric in self.metrics), float("nan"))
        return {
            "births": 100 * births.sum() / steps,
            "deaths": 100 * deaths.sum() / steps,
            "until_violation": float(violated[0]) / steps if len(violated) else 1.0,
        }


@dataclasses.dataclass(frozen=True, kw_only=True)
class Falling(Described):
    """Balls under gravity: between contacts they fall as they must."""

    name = "falling"
    size = SIZE

    @property
    def world(self) -> World:
        return Balls()

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return (
            Metric(
                name="fall_error",
                better="low",
                floor="shuffled",
                about="deviation of the acceleration between contacts, in units of gravity",
            ),
            Metric(
                name="births_and_deaths",
                better="low",
                floor="spliced",
                about="balls that appear or vanish, 100 frames",
            ),
        )

    def scores(self, case: Case, frames: Frames) -> dict[str, float]:
        seen: Seen = case.world.read(frames)
        height, width = frames.shape[1:3]
        residual = fall_residual(seen, fps=FPS, height=height, width=width)
        told = residual[np.isfinite(residual)]
        flips = (seen.visible[1:] != seen.visible[:-1]).sum() if seen.visible.any() else np.nan
        return {
            "fall_error": float(np.median(np.abs(told)) / GRAVITY) if len(told) else float("nan"),
            "births_and_deaths": 100 * float(flips) / (len(frames) - 1),
        }
