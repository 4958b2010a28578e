"""Clips of which one promise of their world is broken: what a measure must tell from true ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import numpy as np

from sora_jax.data.framing import resized
from sora_jax.data.worlds.world import Frames, stream

Floor = Literal[
    "crossed",
    "shuffled",
    "frozen",
    "spliced",
    "alternating",
    "reversed",
    "stretched",
    "bent",
    "flat",
    "doubled",
]
"""crossed      the clip of another caption
shuffled     its frames in random order
frozen       its first frame all the time
spliced      its first half, then the second half of another
alternating  every second frame is that of another
reversed     it backwards
stretched    it wider and narrower again, as no thing with a size does
bent         its rows moved to and fro, as nothing rigid does
flat         its first frame ever larger, as what has no depth comes near
doubled      it twice, one above the other, each half as high"""

# What random numbers are for; part of their key, beside those of `data.worlds.source`.
_BREAKING = 4


def broken(clips: Sequence[Frames], kind: Floor, *, seed: int = 0) -> list[Frames]:
    """Returns each clip broken in one way; the others are the clips that follow it."""
    others = [*clips[1:], clips[0]]
    make = _MAKERS[kind]
    return [
        make(clip, other, stream(seed, index, _BREAKING))
        for index, (clip, other) in enumerate(zip(clips, others, strict=True))
    ]


def _spliced(clip: Frames, other: Frames, _: np.random.Generator) -> Frames:
    half = len(clip) // 2
    return np.concatenate([clip[:half], other[half:]])


def _alternating(clip: Frames, other: Frames, _: np.random.Generator) -> Frames:
    made = clip.copy()
    made[1::2] = other[1::2]
    return made


def _stretched(clip: Frames, _: Frames, rng: np.random.Generator) -> Frames:
    """Each frame in its middle part, up to a fifth narrower than it is high or the reverse."""
    count, height, width = clip.shape[:3]
    wave = np.sin(np.linspace(0, 2 * np.pi, count) + rng.uniform(0, 2 * np.pi))
    made = []
    for frame, amount in zip(clip, wave, strict=True):
        region = [height, width]
        region[int(amount > 0)] = round(region[int(amount > 0)] * (1 - 0.2 * abs(amount)))
        corner = ((height - region[0]) // 2, (width - region[1]) // 2)
        part = (region[0], region[1])
        made.append(resized(frame[None], height, width, corner=corner, region=part)[0])
    return np.stack(made)


def _bent(clip: Frames, _: Frames, rng: np.random.Generator) -> Frames:
    """Rows of each frame moved aside by up to a twentieth of the width, in waves that travel."""
    count, height, width = clip.shape[:3]
    phase = rng.uniform(0, 2 * np.pi) + np.linspace(0, 4 * np.pi, count)[:, None]
    wave = np.sin(phase + np.linspace(0, 3 * np.pi, height))
    column = np.arange(width) + np.rint(0.05 * width * wave).astype(int)[..., None]
    column = np.clip(column, 0, width - 1)
    return np.take_along_axis(clip, column[..., None], axis=2)


def _flat(clip: Frames, _: Frames, __: np.random.Generator) -> Frames:
    """Up to a quarter larger, about its middle."""
    count, height, width = clip.shape[:3]
    made = []
    for nearer in np.linspace(1.0, 1.25, count):
        region = (round(height / nearer), round(width / nearer))
        corner = ((height - region[0]) // 2, (width - region[1]) // 2)
        made.append(resized(clip[:1], height, width, corner=corner, region=region)[0])
    return np.stack(made)


def _doubled(clip: Frames, _: Frames, __: np.random.Generator) -> Frames:
    height, width = clip.shape[1:3]
    upper = resized(clip, height // 2, width)
    lower = resized(clip, height - height // 2, width)
    return np.concatenate([upper, lower], 1)


_MAKERS: dict[Floor, Callable[[Frames, Frames, np.random.Generator], Frames]] = {
    "crossed": lambda clip, other, rng: other,
    "shuffled": lambda clip, other, rng: clip[rng.permutation(len(clip))],
    "frozen": lambda clip, other, rng: np.repeat(clip[:1], len(clip), 0),
    "spliced": _spliced,
    "alternating": _alternating,
    "reversed": lambda clip, other, rng: clip[::-1],
    "stretched": _stretched,
    "bent": _bent,
    "flat": _flat,
    "doubled": _doubled,
}

assert tuple(_MAKERS) == get_args(Floor)
