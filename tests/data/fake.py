"""A source in memory, whose pixels tell the clip, the frame and the place that they come from."""

from __future__ import annotations

import dataclasses

import numpy as np

from sora_jax.data.datasets import Broken, Caption, Record
from sora_jax.data.video import VideoError

READS: list[tuple[str, int, int]] = []
"""What was read in this process: the source's name, the clip, the first frame."""


def record(index: int, size: tuple[int, int, int]) -> Record:
    frames, height, width = size
    captions = (
        Caption(text=f"short {index}", kind="short"),
        Caption(text=f"a long description of {index}", kind="descriptive"),
    )
    return Record(
        name=f"clip{index}",
        frames=frames,
        height=height,
        width=width,
        fps=0.0 if frames == 1 else 8.0,
        captions=captions,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fake:
    """Clips of the given sizes; reading one of `failing` raises, `short` gives fewer frames."""

    sizes: tuple[tuple[int, int, int], ...]
    failing: tuple[int, ...] = ()
    short: tuple[int, ...] = ()
    broken: tuple[Broken, ...] = ()
    name: str = ""

    def open(self) -> Fake:
        return self

    @property
    def records(self) -> tuple[Record, ...]:
        return tuple(record(index, size) for index, size in enumerate(self.sizes))

    def read(self, index: int, start: int, count: int, *, fps: float | None = None) -> np.ndarray:
        READS.append((self.name, index, start))
        if index in self.failing:
            raise VideoError(f"clip{index}", "the file broke")
        frames, height, width = self.sizes[index]
        stop = min(frames, start + count) - (3 if index in self.short else 0)
        clip = np.empty((max(0, stop - start), height, width, 3), np.uint8)
        clip[..., 0] = index + 1
        clip[..., 1] = (1 + np.arange(start, max(start, stop)))[:, None, None] % 256
        clip[..., 2] = np.linspace(1, 255, width).astype(np.uint8)
        return clip


MIXED = Fake(
    sizes=(
        (40, 90, 160),
        (25, 160, 90),
        (9, 120, 120),
        (1, 64, 96),
        (1, 200, 100),
        (60, 90, 160),
        (12, 120, 90),
        (1, 80, 80),
        (34, 128, 128),
        (3, 64, 64),
    )
)
