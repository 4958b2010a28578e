"""From pictures of flat things over a plain ground back to what they are and where.

Where an edge is soft, the colour of a pixel lies on the straight line from the ground's to the
thing's, so that colour and share of the thing are read from the nearest such line; sums of shares
give areas and centres to a part of a pixel, through blur too.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import ndimage

from sora_jax.data.worlds.palette import COLOURS, PLACES, colours_over, levels
from sora_jax.data.worlds.shapes import AREA, CENTROID, KINDS, Kind, depth_of
from sora_jax.data.worlds.world import Frames

Labels = Int[np.ndarray, "frames height width"]
Shares = Float[np.ndarray, "frames height width"]
Share = Float[np.ndarray, "height width"]

_FAR = np.abs(np.arange(256) - levels(PLACES)[..., None]).astype(np.int16)
"""[places, channels, 256]: how far each level is from that of a place."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Blob:
    """One thing in one picture: (down, across) of its centre of mass, its area, in pixels.

    `share` is how much of each pixel it covers.
    """

    centre: tuple[float, float]
    area: float
    share: Share


def place_of(frames: Frames) -> str:
    """The ground of a clip: that which most pixels come nearest to, of those near to any."""
    channels = np.moveaxis(frames, -1, 0).reshape(3, -1)
    # One row a place, so that what follows goes along memory.
    distances = np.stack(
        [sum(table[each] for table, each in zip(tables, channels, strict=True)) for tables in _FAR]
    )
    near = np.bincount(distances.argmin(0)[distances.min(0) < 90], minlength=len(PLACES))
    return list(PLACES)[int(near.argmax())]


def unmixed(
    frames: Frames,
    ground: tuple[int, int, int] | Float[np.ndarray, "3"],
    colours: Float[np.ndarray, "colours 3"],
) -> tuple[Labels, Shares]:
    """For each pixel the colour that lies over the ground, and by how much.

    Labels index `colours`, -1 where there is ground; shares are 0..1. Below a quarter it is ground.
    """
    ground = np.asarray(ground, np.float32)
    offsets = frames.astype(np.float32) - ground
    lines = colours.astype(np.float32) - ground
    shares = np.clip(offsets @ (lines / (lines**2).sum(1, keepdims=True)).T, 0, 1)
    # |offset - share line|², without the part that is the same for every colour.
    errors = shares**2 * (lines**2).sum(1) - 2 * shares * (offsets @ lines.T)
    labels = errors.argmin(-1)
    share = np.take_along_axis(shares, labels[..., None], -1)[..., 0]
    return np.where(share < 0.25, -1, labels), np.where(share < 0.25, 0, share)


def unmixed_over(
    frames: Frames, place: str, *others: tuple[int, int, int]
) -> tuple[Labels, Shares]:
    """`unmixed` for the things that stand out from a place; labels index COLOURS all the same.

    Noise on snow is no white thing so. The labels of `others`, more colours, follow those.
    """
    names = list(COLOURS)
    chosen = [names.index(colour) for colour in colours_over(place)]
    table = np.concatenate([levels(COLOURS)[chosen], np.asarray(others, np.float32).reshape(-1, 3)])
    labels, shares = unmixed(frames, PLACES[place], table)
    meant = [*chosen, *range(len(names), len(names) + len(others)), -1]
    return np.asarray(meant)[labels], shares


def blobs(share: Share, *, least: float = 4.0) -> list[Blob]:
    """The connected things of one colour in one picture, largest first.

    share  how much of each pixel the colour covers.
    least  the smallest area that counts, in pixels; nor does what is nowhere three pixels thick.
    """
    mask = share > 0
    labelled: Any = ndimage.label(mask, np.ones((3, 3)))
    names, count = labelled
    if not count:
        return []
    numbers = np.arange(1, count + 1)
    solid = ndimage.maximum(ndimage.binary_erosion(share > 0.5), names, numbers)
    areas = ndimage.sum(share, names, numbers)
    found = []
    for number, area, thick in zip(numbers, areas, np.atleast_1d(solid), strict=True):
        if thick and area >= least:
            one = np.where(names == number, share, 0)
            found.append(Blob(centre=_centre(one), area=float(area), share=one))
    return sorted(found, key=lambda blob: -blob.area)


def _centre(share: Share) -> tuple[float, float]:
    total = share.sum()
    down = float((share.sum(1) * (np.arange(share.shape[0]) + 0.5)).sum() / total)
    across = float((share.sum(0) * (np.arange(share.shape[1]) + 0.5)).sum() / total)
    return down, across


def centre_of(share: Share) -> Float[np.ndarray, "2"]:
    """(down, across) of the centre of mass of all that covers each pixel by so much."""
    return np.array(_centre(share))


def thick(share: Share) -> Share:
    """The share of those things that count; see `blobs`."""
    return sum((blob.share for blob in blobs(share)), np.zeros_like(share))


def kind_of(blob: Blob) -> tuple[Kind, float]:
    """Which shape a thing is, and how well it fits, 0..1 (1 is exactly).

    Each shape is laid over it with the same area and centre of mass; what both cover is divided by
    what either does.
    """
    overlaps = [_overlap(blob, kind) for kind in KINDS]
    best = int(np.argmax(overlaps))
    return KINDS[best], overlaps[best]


def middle(blob: Blob, kind: Kind) -> tuple[float, float]:
    """(down, across) of the middle of a whole shape, from which it was drawn."""
    radius = np.sqrt(blob.area / AREA[kind])
    return blob.centre[0] - CENTROID[kind] * radius, blob.centre[1]


def _overlap(blob: Blob, kind: Kind) -> float:
    down, across = middle(blob, kind)
    height, width = blob.share.shape
    depth = depth_of(kind, float(np.sqrt(blob.area / AREA[kind])))
    down = (np.arange(height, dtype=np.float32) + 0.5 - np.float32(down))[:, None]
    across = (np.arange(width, dtype=np.float32) + 0.5 - np.float32(across))[None]
    shape = np.clip(depth(down, across) + 0.5, 0, 1)
    return float(np.minimum(shape, blob.share).sum() / np.maximum(shape, blob.share).sum())


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Seen:
    """What is seen of things of the colours of the palette: of each colour the largest.

    place    the ground's name.
    count    things of this colour; in a true clip there is one at most.
    kind     index into KINDS; -1 where none is seen, or it fits no shape.
    centre   (down, across) of its centre of mass in pixels; NaN where none is seen.
    area     in pixels.
    """

    place: str
    count: Int[np.ndarray, "frames colours"]
    kind: Int[np.ndarray, "frames colours"]
    centre: Float[np.ndarray, "frames colours 2"]
    area: Float[np.ndarray, "frames colours"]

    @classmethod
    def nothing(cls, place: str, frames: int, colours: int) -> Seen:
        """Nothing of any colour, to be filled in."""
        return cls(
            place=place,
            count=np.zeros((frames, colours), int),
            kind=np.full((frames, colours), -1),
            centre=np.full((frames, colours, 2), np.nan),
            area=np.zeros((frames, colours)),
        )

    @property
    def visible(self) -> Bool[np.ndarray, "frames colours"]:
        """Whether there is a thing of this colour."""
        return self.count > 0


def seen(frames: Frames, *, fit: float = 0.6) -> Seen:
    """What is seen in pictures of flat shapes over a plain ground.

    fit  the least fit (see `kind_of`) that makes something one of the shapes.
    """
    place = place_of(frames)
    labels, shares = unmixed_over(frames, place)
    result = Seen.nothing(place, len(frames), len(COLOURS))
    for colour in np.unique(labels[labels >= 0]):
        for frame, (label, share) in enumerate(zip(labels, shares, strict=True)):
            things = blobs(np.where(label == colour, share, 0))
            if things:
                kind, fits = kind_of(things[0])
                result.count[frame, colour] = len(things)
                result.kind[frame, colour] = KINDS.index(kind) if fits >= fit else -1
                result.centre[frame, colour] = things[0].centre
                result.area[frame, colour] = things[0].area
    return result
