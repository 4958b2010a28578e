"""What is seen in the world of the eater, and how well a mouth and a food agree."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import ndimage

from sora_jax.data.worlds.eater_scene import BITE, FOOD, HALF_BAND, MOUTH, WIDE
from sora_jax.data.worlds.palette import COLOURS, PLACES, colours_over, levels
from sora_jax.data.worlds.seeing import (
    Labels,
    Share,
    Shares,
    blobs,
    centre_of,
    place_of,
    thick,
    unmixed,
)
from sora_jax.data.worlds.world import Frames

FOODS = ("red", "green", "blue")
MOUTHS = ("yellow", "purple")
BAND = "white"
"""Of a burger, across its middle; a cookie has none."""

_TOUCH, _UNSURE = 2.0, 1.2


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Eaten:
    """A food and a mouth in each frame; colours are numbers of COLOURS, -1 where nothing is seen.

    band     whether it is a burger.
    mask     which pixels show food.
    area     how many, to parts of a pixel; read of a render right to 0.04 of a whole food, in
             contact to 0.06.
    centre   (down, across) of the middle of the mouth's disc, NaN where none is seen.
    gap      from the mouth's disc to the nearest middle of a pixel of food, in pixels: 0 to
             0.7 where they touch, infinite where one of them is not seen.
    contact  whether the gap is under 2 pixels.
    sure     whether the gap is further than 1.2 pixels from that; else contact is not promised.
    bites    how many are missing, each of them the part BITE of the food. -1 while there is
             contact, as the mouth then hides what it has bitten, and where no food is seen.
    """

    place: str
    food: int
    mouth: int
    band: bool
    mask: Bool[np.ndarray, "frames height width"]
    area: Float[np.ndarray, " frames"]
    centre: Float[np.ndarray, "frames 2"]
    gap: Float[np.ndarray, " frames"]
    contact: Bool[np.ndarray, " frames"]
    sure: Bool[np.ndarray, " frames"]
    bites: Int[np.ndarray, " frames"]


def seen(frames: Frames) -> Eaten:
    """Reads a state from pictures."""
    place, names, side = place_of(frames), list(COLOURS), min(frames.shape[1:3])
    food, mouth, band = _colours(frames, place)
    chosen = levels({each: COLOURS[each] for each in (food, mouth, BAND)[: 2 + band]})
    labels, shares = unmixed(frames, PLACES[place], chosen)
    mouths = np.stack([_largest(each) for each in np.where(_stout(labels == 1), shares, 0)])
    rest = np.where(mouths > 0, 0, _solid(labels, shares))
    foods = np.stack([thick(each) for each in rest])
    centre = [_mouth_middle(*each, side) for each in zip(mouths, foods, strict=True)]
    state = state_of(place, foods, np.array(centre))
    return dataclasses.replace(
        state,
        food=names.index(food) if state.area.any() else -1,
        mouth=names.index(mouth) if not np.isnan(state.centre).all() else -1,
        band=band,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Eating:
    """How a mouth and a food act on each other in a clip; NaN where nothing tells.

    bite_at_contact  of the contacts that begin and end in the clip, how many took half a bite or
                     more, 0..1.
    idle_change      how much the food's area changes between frames without contact, on average,
                     as a part of a whole food.
    growth           the most by which it is larger than in an earlier frame, likewise.
    persistence      IoU of what is missing in one frame with what is missing in the next, without
                     contact, on average, 0..1.
    """

    bite_at_contact: float
    idle_change: float
    growth: float
    persistence: float


def eating(state: Eaten) -> Eating:
    """Measures a state; perfect is (1, 0, 0, 1). Frames in which the mouth hides food do not count,
    nor do those before any food is seen; where there is none any longer, all of it is missing.

    What is missing is what the first frame that counts shows of the food and a later one does not.
    """
    told = np.flatnonzero(~state.contact & (np.maximum.accumulate(state.area) > 0))
    whole = np.pi * (FOOD * min(state.mask.shape[1:])) ** 2
    areas = state.area[told] / whole
    touched = np.array([state.contact[a:b].any() for a, b in itertools.pairwise(told)], bool)
    steps = np.diff(areas)
    missing = [state.mask[told[0]] & ~state.mask[frame] for frame in told]
    shared = [
        (one & other).sum() / (one | other).sum()
        for (one, other), touch in zip(itertools.pairwise(missing), touched, strict=True)
        if not touch and one.sum() > 0.5 * BITE * whole
    ]
    return Eating(
        bite_at_contact=_mean(steps[touched] < -BITE / 2),
        idle_change=_mean(np.abs(steps[~touched])),
        growth=float((areas - np.minimum.accumulate(areas)).max()) if len(areas) else float("nan"),
        persistence=_mean(np.array(shared)),
    )


def _mean(values: np.ndarray) -> float:
    return float(np.mean(values)) if len(values) else float("nan")


def state_of(place: str, food: Shares, centre: Float[np.ndarray, "frames 2"]) -> Eaten:
    """What follows from how much food each pixel shows and where the mouth is."""
    height, width = food.shape[1:]
    side, mask, area = min(height, width), food > 0.5, food.sum((1, 2), dtype=np.float64)
    down = np.arange(height)[:, None] + 0.5 - centre[:, :1, None]
    distance = np.hypot(down, np.arange(width) + 0.5 - centre[:, 1:, None])
    nearest = np.where(mask & ~np.isnan(distance), distance, np.inf).min((1, 2))
    gap = np.maximum(nearest - MOUTH * side, 0)
    contact, whole = gap < _TOUCH, np.pi * (FOOD * side) ** 2
    missing = np.rint((1 - area / whole) / BITE).astype(int)
    return Eaten(
        place=place,
        food=-1,
        mouth=-1,
        band=False,
        mask=mask,
        area=area,
        centre=centre,
        gap=gap,
        contact=contact,
        sure=np.abs(gap - _TOUCH) > _UNSURE,
        bites=np.where(contact | ~mask.any((1, 2)), -1, np.maximum(missing, 0)),
    )


def _colours(frames: Frames, place: str) -> tuple[str, str, bool]:
    """The colours of food and mouth in a clip, and whether the food has a band."""
    names = colours_over(place)
    labels, shares = unmixed(frames, PLACES[place], levels({each: COLOURS[each] for each in names}))
    sums = np.bincount(labels.ravel() + 1, shares.ravel(), minlength=len(names) + 1)[1:]
    area = dict(zip(names, sums / len(frames), strict=True))
    food, mouth = (max(each, key=lambda name: area.get(name, -1)) for each in (FOODS, MOUTHS))
    least = FOOD * HALF_BAND * min(frames.shape[1:3]) ** 2
    return food, mouth, bool(area.get(BAND, 0) > least)


def _solid(labels: Labels, shares: Shares) -> Shares:
    """Shares with all that is two pixels inside whole: where two colours meet, they are too low.

    There even the ground's colour may come about, along the edges of a band, which are level. So a
    pixel between food and band is covered as much as these two are, near a bite as well.
    """
    food = np.where(labels == 1, -1, labels)
    above, below = food[:, :-2], food[:, 2:]
    seam = (above >= 0) & (below >= 0) & (above != below)
    between = np.where(seam, np.minimum(shares[:, :-2], shares[:, 2:]), 0)
    shares = np.maximum(shares, np.pad(between, ((0, 0), (1, 1), (0, 0))))
    filled = ndimage.binary_closing(labels >= 0, np.ones((1, 3, 1)))
    inside = ndimage.binary_erosion(filled, np.ones((1, 3, 3)), iterations=2)
    return np.where(inside, 1, shares)


def _stout(
    mask: Bool[np.ndarray, "frames height width"],
) -> Bool[np.ndarray, "frames height width"]:
    """What of it is three pixels thick, and its rim: not the seams of two other colours."""
    inner = ndimage.binary_opening(mask, np.ones((1, 3, 3)))
    return np.asarray(ndimage.binary_dilation(inner, np.ones((1, 3, 3))) & mask)


def _largest(share: Share) -> Share:
    found = blobs(share)
    return found[0].share if found else np.zeros_like(share)


def _mouth_middle(mouth: Share, food: Share, side: int) -> tuple[float, float]:
    """The middle of the disc of a mouth that faces the food; NaN for none.

    Of a disc of radius r without a wedge of half angle a, area = (pi - a) r², and the centre of
    mass is 2 r sin(a) / (3 (pi - a)) behind the middle.
    """
    radius, area = MOUTH * side, mouth.sum()
    if area < 0.5 * np.pi * radius**2:
        return float("nan"), float("nan")
    middle = centre_of(mouth)
    if food.any():
        half = np.clip(np.pi - area / radius**2, 0, np.radians(WIDE))
        towards = centre_of(food) - middle
        behind = 2 * radius * np.sin(half) / (3 * (np.pi - half))
        middle = middle + behind * towards / max(float(np.hypot(*towards)), 1e-6)
    return float(middle[0]), float(middle[1])
