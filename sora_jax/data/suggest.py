"""A small set of buckets that suits given clips: few shapes, little padding, nothing cropped.

Each shape is one compiled program, so that there are to be few. They are chosen greedily: one box
for each length, then always the box that improves the score of all clips together most, until none
improves it by half a percent. The score is that of buckets.py,

    score = pixels kept / pixels that could be kept * (tokens used / tokens paid)^2

where rows left empty in the last batch of a pass are paid for as well. A length with hardly any
window is left out if that improves the score.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy import ndarray

from sora_jax.arrays import Size
from sora_jax.data.buckets import GRID, Bucket, Grid, assign, batch_of
from sora_jax.data.datasets import Record, frames_at
from sora_jax.data.framing import PAD, Framing

# A further program to compile must be worth this much of all tokens.
WORTHWHILE = 0.005


def suggest(
    records: Sequence[Record],
    tokens: int,
    *,
    frames: Sequence[int] = (1, 9, 17),
    pixels: int = 128 * 128,
    shapes: int = 16,
    multiple: int = 1,
    fps: float | None = None,
    policy: Framing = PAD,
    grid: Grid = GRID,
) -> tuple[Bucket, ...]:
    """At most `shapes` buckets for `records`: a pure function. () where there are no records.

    tokens    of a step, at most; batches are made smaller, down to a half, where that leaves fewer
              rows empty.
    frames    the lengths to choose from; those that hardly a clip needs are left out.
    pixels    of a frame, at most.
    multiple  batches are multiples of it (a number of devices or hosts).

    Raises ValueError where a single clip exceeds the budget, where frames do not fit the grid, and
    if there are fewer `shapes` than lengths.
    """
    settings = _Settings(tokens, pixels, shapes, multiple, policy, grid)
    counts = [frames_at(record, fps) for record in records]
    best = _Suggestion(records, counts, tuple(frames), settings)
    for length in best.rare():
        fewer = tuple(other for other in best.frames if other != length)
        trial = _Suggestion(records, counts, fewer, settings) if fewer else best
        best = trial if trial.score > best.score else best
    return tuple(bucket for choice in best.choices for bucket in choice.buckets())


@dataclasses.dataclass(frozen=True, kw_only=True)
class Suggested:
    """Buckets that are derived from the clips when they are opened; fields as in `suggest`."""

    tokens: int
    frames: tuple[int, ...] = (1, 9, 17)
    pixels: int = 128 * 128
    shapes: int = 16
    multiple: int = 1

    def suit(
        self,
        records: Sequence[Record],
        *,
        fps: float | None = None,
        policy: Framing = PAD,
        grid: Grid = GRID,
    ) -> tuple[Bucket, ...]:
        """The buckets for these records."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return suggest(records, fps=fps, policy=policy, grid=grid, **fields)


class _Settings(NamedTuple):
    tokens: int
    pixels: int
    shapes: int
    multiple: int
    policy: Framing
    grid: Grid


_Sizes = dict[tuple[int, int], int]
"""Number of windows of each height and width."""


class _Suggestion:
    """The boxes for given lengths, and their score."""

    def __init__(
        self,
        records: Sequence[Record],
        counts: Sequence[int],
        frames: tuple[int, ...],
        settings: _Settings,
    ) -> None:
        self.frames, self.there, self.stills = frames, sum(counts), 1 in counts
        windows = _windows(records, counts, frames, settings)
        if settings.shapes < len(windows):
            raise ValueError(
                f"shapes={settings.shapes} is fewer than one for each of {sorted(windows)} frames"
            )
        self.choices = [_Choice(n, sizes, settings) for n, sizes in sorted(windows.items())]
        self.score = self._score(None)
        while sum(len(choice.chosen) for choice in self.choices) < settings.shapes:
            scores = [self._score(choice) for choice in self.choices]
            if not scores or max(scores) <= self.score * (1 + WORTHWHILE):
                break
            self.score = max(scores)
            self.choices[scores.index(self.score)].improve()

    def _score(self, improved: _Choice | None) -> float:
        """The score of all lengths together, with the best further box for one of them."""
        if not self.choices:
            return 0.0
        sums = [c.better[1] if c is improved else c.sums for c in self.choices]
        kept, used, paid = np.sum(sums, axis=0)
        return float(kept / self.there * (used / paid) ** 2)

    def rare(self) -> list[int]:
        """Lengths whose windows do not fill one batch; not that of stills, if there are any."""
        few = [c for c in self.choices if c.number.sum() < c.batches[c.chosen[0]]]
        return [c.frames for c in few if c.frames > 1 or not self.stills]


def _windows(
    records: Sequence[Record], counts: Sequence[int], frames: Sequence[int], settings: _Settings
) -> dict[int, _Sizes]:
    """For each length, how many windows of which picture size there will be.

    How a clip is cut in time does not depend on the boxes in space as long as all lengths have the
    same ones, so one square stands for them.
    """
    grid = settings.grid
    squares = [Bucket(frames=n, height=grid.height, width=grid.width, batch=1) for n in frames]
    for square in squares:
        grid.check(square)
    cut: dict[int, list[int]] = {}
    windows: dict[int, _Sizes] = {}
    for record, count in zip(records, counts, strict=True):
        if count not in cut:
            clip = Size(count, grid.height, grid.width)
            cut[count] = [frames[w.bucket] for w in assign(clip, squares, grid=grid).windows]
        size = settings.policy.region(record.height, record.width)
        for length in cut[count]:
            sizes = windows.setdefault(length, {})
            sizes[size] = sizes.get(size, 0) + 1
    return windows


class _Choice:
    """The boxes chosen for windows of one length. Arrays are [pictures, candidate boxes]."""

    def __init__(self, frames: int, sizes: _Sizes, settings: _Settings) -> None:
        tokens, pixels, _, multiple, policy, grid = settings
        self.frames, self.multiple = frames, multiple
        pictures = np.asarray(sorted(sizes))
        self.number = np.asarray([sizes[size] for size in sorted(sizes)])
        boxes = sorted({box for size in sizes for box in _candidates(size, pixels, policy, grid)})
        self.boxes = [Size(frames, *box) for box in boxes]
        self.batches = [batch_of(b, tokens, grid=grid, multiple=multiple) for b in self.boxes]
        self.paid = np.asarray([grid.tokens(box) for box in self.boxes])
        scale = np.min(np.asarray(boxes)[None] / pictures[:, None], axis=2, keepdims=True)
        fits = np.maximum(1, np.rint(pictures[:, None] * np.minimum(scale, policy.enlarge)))
        cells = np.ceil(fits / (grid.height, grid.width)).prod(axis=2)
        self.used = cells * grid.tokens(Size(frames, 1, 1))
        possible = np.minimum(pixels, pictures.prod(axis=1) * policy.enlarge**2)
        self.kept = np.minimum(1.0, fits.prod(axis=2) / possible[:, None])
        self.scores = self.kept * (self.used / self.paid) ** 2
        self.chosen: list[int] = []
        self.improve()

    def improve(self) -> None:
        """Adds the best box, and takes away one that it has made superfluous."""
        best, self.sums = self.better
        del self.better
        self.chosen = [box for box, number in self._numbers(best).items() if number]

    @functools.cached_property
    def better(self) -> tuple[list[int], ndarray]:
        """The chosen boxes with the best further one, and their sums."""
        trials = [[*self.chosen, i] for i in range(len(self.boxes)) if i not in self.chosen]
        if not trials:
            return self.chosen, self.sums
        sums = [self._sums(trial) for trial in trials]
        scores = [kept * (used / paid) ** 2 for kept, used, paid in sums]
        best = scores.index(max(scores))
        return trials[best], sums[best]

    def buckets(self) -> list[Bucket]:
        return [
            Bucket(**self.boxes[box]._asdict(), batch=self._even(box, number))
            for box, number in sorted(self._numbers(self.chosen).items())
        ]

    def _numbers(self, chosen: list[int]) -> dict[int, int]:
        """How many windows go to each of the chosen boxes."""
        where = np.argmax(self.scores[:, chosen], axis=1)
        numbers = np.bincount(where, self.number, len(chosen)).astype(int)
        return dict(zip(chosen, numbers.tolist(), strict=True))

    def _even(self, box: int, number: int) -> int:
        """The batch with which `number` windows leave the fewest rows empty, in as few steps.

        At least half of what the budget allows, so that all steps cost about the same.
        """
        most = self.batches[box] // self.multiple
        steps = max(1, math.ceil(number / self.batches[box]))
        even = math.ceil(number / (steps * self.multiple))
        return max(even, math.ceil(most / 2)) * self.multiple

    def _sums(self, chosen: list[int]) -> ndarray:
        """Frames kept (as parts of pictures), tokens used, tokens paid."""
        where = np.asarray(chosen)[np.argmax(self.scores[:, chosen], axis=1)]
        rows = np.arange(len(where))
        paid = 0
        for box, number in self._numbers(chosen).items():
            batch = self._even(box, number)
            paid += math.ceil(number / batch) * batch * int(self.paid[box])
        kept = self.frames * np.sum(self.number * self.kept[rows, where])
        used = np.sum(self.number * self.used[rows, where])
        return np.asarray([kept, used, paid], float)


def _candidates(
    size: tuple[int, int], pixels: int, policy: Framing, grid: Grid
) -> list[tuple[int, int]]:
    """Boxes of at most `pixels` around what a picture is resized to, next above and next below."""
    height, width = size
    scale = min(policy.enlarge, math.sqrt(pixels / (height * width)))
    heights = {round_to(height * scale / grid.height) * grid.height for round_to in _ROUNDINGS}
    widths = {round_to(width * scale / grid.width) * grid.width for round_to in _ROUNDINGS}
    boxes = [(max(h, grid.height), max(w, grid.width)) for h in heights for w in widths]
    smallest = (grid.height, grid.width)
    return [box for box in boxes if math.prod(box) <= pixels] or [smallest]


_ROUNDINGS = (math.floor, math.ceil)
