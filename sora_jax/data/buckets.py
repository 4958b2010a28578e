"""Boxes of (frames, height, width) with a constant token budget, and which box a clip goes to.

A clip may be padded in its box, lose resolution and lose frames. One number says how much is lost:

    loss = 1 - (pixels kept / pixels there are) * (tokens used / tokens paid)^2

Pixels kept are counted after resizing, frames included, so that dropped frames, lost resolution and
cropping all show in the first fraction; a token is used if any of its pixels is valid, so that
padding shows in the second. That one is squared because padding is paid for in every step, while
the frames dropped at the end of a clip are much like those that are kept. A clip goes to the box,
or boxes, where its loss is least. A video longer than its box is cut into consecutive windows, the
longest first; it is never cut into stills.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import itertools
import math
from collections.abc import Iterator, Sequence

from sora_jax.arrays import Size
from sora_jax.data.framing import PAD, Framing, fitted

# Longer windows hold longer motion, which the loss does not see: shorter ones must win by a tenth.
LONGER = 0.9


@dataclasses.dataclass(frozen=True, kw_only=True)
class Grid:
    """How pixels become tokens: `factor` pixels a latent, `patch` latents a token.

    The first frame is a latent frame of its own, so that clips have 1 + a multiple of
    `factor.frames` frames.
    """

    factor: Size = Size(4, 8, 8)
    patch: Size = Size(1, 2, 2)

    @property
    def height(self) -> int:
        """Pixels a token, vertically; heights of boxes are multiples of it."""
        return self.factor.height * self.patch.height

    @property
    def width(self) -> int:
        """Pixels a token, horizontally; widths of boxes are multiples of it."""
        return self.factor.width * self.patch.width

    def whole(self, frames: int) -> int:
        """The largest 1 + k * factor.frames that is not above `frames` (at least 1)."""
        return 1 + (frames - 1) // self.factor.frames * self.factor.frames

    def latent(self, size: Size) -> Size:
        """The latents that hold a clip of `size` pixels, partly filled ones included."""
        return Size(
            1 + math.ceil((size.frames - 1) / self.factor.frames) if size.frames else 0,
            math.ceil(size.height / self.factor.height),
            math.ceil(size.width / self.factor.width),
        )

    def tokens(self, size: Size) -> int:
        """The tokens that hold a clip of `size` pixels, partly filled ones included."""
        latent = self.latent(size)
        return math.prod(math.ceil(n / p) for n, p in zip(latent, self.patch, strict=True))

    def check(self, bucket: Bucket) -> None:
        """Raises ValueError if the sizes of a bucket do not fit this grid."""
        if bucket.frames != self.whole(bucket.frames):
            low, step = self.whole(bucket.frames), self.factor.frames
            raise ValueError(
                f"bucket {bucket}: frames must be 1 + a multiple of {step}: {low} or {low + step}"
            )
        for name in ("height", "width"):
            value, step = getattr(bucket, name), getattr(self, name)
            if value % step:
                low = value // step * step
                near = f"{low} or {low + step}" if low else f"{step}"
                raise ValueError(
                    f"bucket {bucket}: {name} must be a multiple of {step} "
                    f"(autoencoder factor times patch): {near}"
                )


GRID = Grid()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bucket:
    """A box, in frames and pixels, and how many clips of it make one step on all hosts together."""

    frames: int
    height: int
    width: int
    batch: int

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if getattr(self, field.name) < 1:
                raise ValueError(f"bucket {self}: {field.name} must be at least 1")

    @property
    def size(self) -> Size:
        return Size(self.frames, self.height, self.width)

    def __str__(self) -> str:
        return f"{self.size} (batch {self.batch})"


def batch_of(size: Size, tokens: int, *, grid: Grid = GRID, multiple: int = 1) -> int:
    """How many clips of `size` a budget of `tokens` a step holds, rounded down to a multiple.

    Raises ValueError if that is none.
    """
    clip = grid.tokens(size)
    batch = tokens // clip // multiple * multiple
    if not batch:
        raise ValueError(
            f"a budget of {tokens} tokens holds less than {multiple} clip(s) of {size}, "
            f"{clip} tokens each: raise it to {clip * multiple} or make the clips smaller"
        )
    return batch


def buckets(
    *,
    tokens: int,
    frames: Sequence[int] = (1, 9, 17),
    areas: Sequence[int] = (128 * 128,),
    aspects: Sequence[tuple[int, int]] = ((16, 9), (4, 3), (1, 1), (3, 4), (9, 16)),
    grid: Grid = GRID,
    multiple: int = 1,
) -> tuple[Bucket, ...]:
    """A bucket for each of `frames` x `areas` (pixels a frame) x `aspects` (width, height).

    Each step has about the same number of tokens, at most `tokens`. Heights and widths are rounded
    to the grid; boxes that become equal are made once. Raises ValueError where frames do not fit
    the grid or one clip exceeds the budget.
    """
    boxes = dict.fromkeys(
        _box(count, area, width / height, grid)
        for count in frames
        for area in areas
        for width, height in aspects
    )
    made = tuple(
        Bucket(**size._asdict(), batch=batch_of(size, tokens, grid=grid, multiple=multiple))
        for size in boxes
    )
    for bucket in made:
        grid.check(bucket)
    return made


def _box(frames: int, area: int, aspect: float, grid: Grid) -> Size:
    height = max(1, round(math.sqrt(area / aspect) / grid.height)) * grid.height
    width = max(1, round(math.sqrt(area * aspect) / grid.width)) * grid.width
    return Size(frames, height, width)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Window:
    """Consecutive frames of a clip in a bucket: `frames`, `height`, `width` of it are valid."""

    bucket: int
    start: int
    frames: int
    height: int
    width: int

    @property
    def size(self) -> Size:
        return Size(self.frames, self.height, self.width)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Assignment:
    """What becomes of one clip: its windows, how many frames are dropped, its loss (0..1)."""

    windows: tuple[Window, ...]
    dropped: int
    loss: float


def assign(
    clip: Size, boxes: Sequence[Bucket], *, policy: Framing = PAD, grid: Grid = GRID
) -> Assignment:
    """The windows of a clip of size `clip` (frames, and pixels as displayed) that lose least.

    `Window.bucket` counts in `boxes`. Every clip gets at least one window. Raises ValueError if
    there are no boxes.
    """
    if not boxes:
        raise ValueError("there are no buckets to put clips into; give at least one")
    shapes = _best_shapes(clip.height, clip.width, tuple(boxes), policy, grid)
    best: Cuts = []
    least = math.inf
    for cuts in _cuts(clip.frames, sorted(shapes, reverse=True), grid):
        losses = [_loss(clip, spans, shapes, boxes, grid) for spans in cuts]
        if not best or (1 - min(losses)) * LONGER > 1 - least:
            least = min(losses)
            best = cuts[losses.index(least)]
    starts = itertools.accumulate((filled for _, filled in best), initial=0)
    windows = tuple(
        _moved(shapes[length], start, filled)
        for (length, filled), start in zip(best, starts, strict=False)
    )
    dropped = clip.frames - sum(filled for _, filled in best)
    return Assignment(windows=windows, dropped=dropped, loss=least)


def _moved(window: Window, start: int, frames: int) -> Window:
    height, width = window.height, window.width
    return Window(bucket=window.bucket, start=start, frames=frames, height=height, width=width)


# A large manifest has few sizes of pictures and many numbers of frames.
@functools.lru_cache(maxsize=4096)
def _best_shapes(
    height: int, width: int, boxes: tuple[Bucket, ...], policy: Framing, grid: Grid
) -> dict[int, Window]:
    """For each number of frames the box that loses least in space, as a window at the beginning."""
    best: dict[int, tuple[float, Window]] = {}
    for index, box in enumerate(boxes):
        region = policy.region(height, width)
        size = Size(1, *fitted(*region, box=box.size, enlarge=policy.enlarge))
        kept = min(1.0, size.height * size.width / (height * width))
        used = grid.tokens(size) / grid.tokens(Size(1, box.height, box.width))
        score = kept * used**2
        if box.frames not in best or score > best[box.frames][0]:
            window = Window(bucket=index, start=0, **(size._asdict() | {"frames": box.frames}))
            best[box.frames] = (score, window)
    return {frames: window for frames, (_, window) in best.items()}


Cuts = list[tuple[int, int]]
"""Windows one after the other: frames of the box, and how many of them are filled."""


def _cuts(count: int, lengths: Sequence[int], grid: Grid) -> Iterator[list[Cuts]]:
    """Ways to cut `count` frames into boxes of `lengths` (descending), grouped by the longest.

    Greedy from each length downwards; what remains is dropped or padded in one more box. A clip
    that fills no box of several frames is padded in one box, or gives one still.
    """
    videos = [n for n in lengths if n > 1]
    fitting = [n for n in videos if n <= count]
    for index in range(len(fitting)):
        spans: Cuts = []
        rest = count
        for length in fitting[index:]:
            spans += [(length, length)] * (rest // length)
            rest %= length
        padded = [n for n in videos if n > rest] if rest else []
        yield [spans, *([*spans, (n, grid.whole(rest))] for n in padded)]
    if not fitting:
        yield [[(n, min(n, grid.whole(count)))] for n in lengths]


def _loss(
    clip: Size, spans: Cuts, shapes: dict[int, Window], boxes: Sequence[Bucket], grid: Grid
) -> float:
    """The loss of a clip that is cut so."""
    kept = used = paid = 0.0
    area = clip.height * clip.width
    for (length, filled), number in collections.Counter(spans).items():
        shape = shapes[length]
        kept += number * filled * min(1.0, shape.height * shape.width / area)
        used += number * grid.tokens(Size(filled, shape.height, shape.width))
        paid += number * grid.tokens(boxes[shape.bucket].size)
    return 1 - kept / clip.frames * (used / paid) ** 2
