"""Do things persist while they are not seen: behind a bar, and from shot to shot?"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from sora_jax.arrays import Size
from sora_jax.data.worlds.cuts import Cuts, identity
from sora_jax.data.worlds.occluder import HIDDEN, PARTLY, WHOLLY, Occluder
from sora_jax.data.worlds.occluder import State as Occluded
from sora_jax.data.worlds.occluder_scene import passage_of
from sora_jax.data.worlds.palette import COLOURS
from sora_jax.data.worlds.world import FPS, Frames, World
from sora_jax.evaluation.suite import SIZE, Case, Described, Metric

BINS = ((1, 2), (3, 5), (6, 12))
"""Frames of occlusion that are told apart."""

_AT_BAR = 0.2
"""So near to the bar, in shorter sides, the middle of a thing is when it is hidden next."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Permanence(Described):
    """Shapes that pass behind a bar, judged by what they were before.

    Each measure is also taken of the things alone that the asked clip hides for so many frames
    (BINS), by how wide its bar is and how fast the thing.
    """

    name = "permanence"
    size: Size = Size(33, 64, 64)
    least = 16
    # Of 48 clips twenty have a long occlusion, and nine a very short one.
    truths = 2

    @property
    def world(self) -> World:
        return Occluder()

    @property
    def metrics(self) -> tuple[Metric, ...]:
        of_all = (
            Metric(
                name="reappears",
                better="high",
                floor="spliced",
                about="hidden things that come out again, of the same colour and shape",
            ),
            Metric(
                name="swapped",
                better="low",
                floor="spliced",
                about="of hidden things after which something comes out, those where it has another"
                " shape or colour",
            ),
            Metric(
                name="exit_error",
                better="low",
                floor="bent",
                about="where it comes out against where it should be, in shorter sides, at most 1",
            ),
        )
        by_length = (
            dataclasses.replace(
                metric,
                name=_after(metric.name, low, high),
                about=f"the same, of things hidden for {low} to {high} frames",
            )
            for metric in of_all
            for low, high in BINS
        )
        return (*of_all, *by_length)

    def scores(self, case: Case, frames: Frames) -> dict[str, float]:
        state: Occluded = case.world.read(frames)
        found: dict[str, list[float]] = {metric.name: [] for metric in self.metrics}
        asked = {mover.colour: passage_of(mover, case.scene.bar) for mover in case.scene.movers}
        for number, colour in enumerate(COLOURS):
            passage = asked.get(colour)
            hidden = round((passage.emerges - passage.enters) * FPS) if passage else 0
            for name, value in _passage(state, number, side=min(frames.shape[1:3])).items():
                found[name].append(value)
                for low, high in BINS:
                    if low <= hidden <= high:
                        found[_after(name, low, high)].append(value)
        return {name: float(np.mean(v)) if v else float("nan") for name, v in found.items()}


def _after(name: str, low: int, high: int) -> str:
    return f"{name}_after_{low}_to_{high}"


def _passage(state: Occluded, colour: int, *, side: int) -> dict[str, float]:
    """What is told of the thing of a colour; nothing if it is never hidden."""
    found = _hidden(state, colour, side=side)
    if found is None:
        return {}
    gone, back = found
    before, kind = state.kind[:gone, colour], _commonest(state.kind[:gone, colour])
    after = np.flatnonzero(state.view[back:, colour] == WHOLLY) + back
    # What had no shape that can be told comes out in none.
    same = after[(state.kind[after, colour] == kind) & (kind >= 0)]
    others = (state.view[:gone] == HIDDEN).all(0) & (state.view[gone:] == WHOLLY).any(0)
    values = {"reappears": float(len(same) > 0)}
    if others.any() or len(after):
        values["swapped"] = float(others.any() or not len(same))
    track = np.flatnonzero(before >= 0)
    if len(after) and len(track) > 1:
        # Where it will be, from where it was seen wholly.
        expected = _extrapolated(track, state.centre[track, colour], after[0])
        error = np.linalg.norm(state.centre[after[0], colour] - expected)
        values["exit_error"] = min(1.0, float(error) / side)
    return values


def _extrapolated(frames: np.ndarray, centre: np.ndarray, frame: Any) -> Any:
    """Where a thing will be that keeps its way."""
    slope, offset = np.polyfit(frames, centre, 1)
    return slope * frame + offset


def _hidden(state: Occluded, colour: int, *, side: int) -> tuple[int, int] | None:
    """The first frames, up to before the second, in which a thing that was seen wholly is hidden by
    the bar; None if there are none. One that is not seen elsewhere has vanished, or flickers."""
    wholly = np.flatnonzero(state.view[:, colour] == WHOLLY)
    if not len(wholly):
        return None
    unseen = (state.view[:, colour] == HIDDEN) & (np.arange(len(state.view)) > wholly[0])
    edges = np.flatnonzero(np.diff([0, *unseen, 0])).reshape(-1, 2)
    for start, end in edges:
        left, right = state.bar[start]
        before = wholly[wholly < start][-2:]
        across = state.centre[before[-1], colour, 1]
        if len(before) == 2:
            across = _extrapolated(before, state.centre[before, colour, 1], start)
        near = max(left - across, across - right) <= _AT_BAR * side
        if near or state.view[start - 1, colour] == PARTLY:
            return int(start), int(end)
    return None


def _commonest(kinds: np.ndarray) -> int:
    kinds = kinds[kinds >= 0]
    return int(np.bincount(kinds).argmax()) if len(kinds) else -1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shots(Described):
    """One character in several shots with hard cuts."""

    name = "shots"
    size: Size = SIZE
    least = 6

    @property
    def world(self) -> World:
        return Cuts()

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return (
            Metric(
                name="identity",
                better="high",
                floor="alternating",
                about="attributes of the character that are the same on both sides of a cut",
            ),
            Metric(
                name="attributes",
                better="high",
                floor="crossed",
                about="attributes that are those of the caption",
            ),
            Metric(
                name="shots",
                better="high",
                floor="crossed",
                about="clips with as many shots as are asked for",
                yes_no=True,
            ),
        )

    def scores(self, case: Case, frames: Frames) -> dict[str, float]:
        state = case.world.read(frames)
        right = state.attributes == np.asarray(case.scene.figure.attributes)
        return {
            "identity": identity(state),
            "attributes": float(right.mean()),
            "shots": float(state.shot.max() + 1 == len(case.scene.shots)),
        }
