"""The world of cuts: two to four shots of one figure, each over another place.

The figure has six attributes, which stay as they are through all the shots of a clip; its position
and its motion are new in each, and so is the place: that is how a cut is seen.
"""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
from jaxtyping import Float, Int
from scipy import ndimage

from sora_jax.data.datasets import Caption
from sora_jax.data.worlds.cuts_scene import (
    ATTRIBUTES,
    EYE,
    HAT,
    HATS,
    SIZES,
    Scene,
    anything,
)
from sora_jax.data.worlds.cuts_words import described, short_caption
from sora_jax.data.worlds.palette import COLOURS, PLACES, levels
from sora_jax.data.worlds.seeing import (
    Blob,
    Share,
    blobs,
    centre_of,
    kind_of,
    middle,
    place_of,
    unmixed_over,
)
from sora_jax.data.worlds.shapes import AREA, KINDS, Kind, depth_of, finished, paint
from sora_jax.data.worlds.world import Frames, Setting, Times, check_most

_FIT = 0.6
# Where the eye is looked at, as a part of its radius: where blur has not reached.
_PUPIL = 0.6


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class State:
    """What is seen of the figure.

    place       of each frame, an index into PLACES.
    shot        the number of the shot, from 0 on; one more where the place is another.
    attributes  see ATTRIBUTES; -1 for what is not seen.
    centre      (down, across) of the middle of the body in pixels; NaN where there is none.
    """

    place: Int[np.ndarray, " frames"]
    shot: Int[np.ndarray, " frames"]
    attributes: Int[np.ndarray, "frames 6"]
    centre: Float[np.ndarray, "frames 2"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cuts:
    """The world.

    most  shots in a scene: one of 2..most, each as likely, if they have the time.
    said  how likely each attribute, and the places, are said in a short caption.
    """

    most: int = 4
    said: float = 0.85

    def __post_init__(self) -> None:
        check_most("cuts", self.most, least=2)

    @property
    def name(self) -> str:
        return "cuts"

    def scene(self, rng: np.random.Generator, setting: Setting) -> Scene:
        return anything(rng, setting, most=self.most)

    def captions(self, scene: Scene, rng: np.random.Generator) -> tuple[Caption, ...]:
        short = short_caption(scene, rng, said=self.said)
        return Caption(text=short), Caption(text=described(scene, rng), kind="descriptive")

    def render(self, scene: Scene, times: Times, *, height: int, width: int) -> Frames:
        side, figure = min(height, width), scene.figure
        grounds = np.asarray([PLACES[shot.place] for shot in scene.shots], np.float32)
        canvas = np.empty((len(times), height, width, 3), np.float32)
        canvas[:] = grounds[scene.shot_at(times)][:, None, None]
        centre, radius = scene.centres_at(times) * side, figure.radius * side
        up = np.array([figure.hat_height * side, 0.0])
        parts: tuple[tuple[Kind, str, np.ndarray, float], ...] = (
            (figure.body, figure.colour, centre, radius),
            ("circle", figure.eye_colour, centre, EYE * radius),
            (figure.hat, figure.hat_colour, centre - up, HAT * radius),
        )
        for kind, colour, where, size in parts:
            paint(canvas, depth_of(kind, size), COLOURS[colour], centre=where, reach=size)
        return finished(canvas)

    def truth(self, scene: Scene, times: Times, *, height: int, width: int) -> State:
        shot = scene.shot_at(times)
        places = np.array([list(PLACES).index(each.place) for each in scene.shots])
        return State(
            place=places[shot],
            shot=np.cumsum(np.diff(places[shot], prepend=places[shot[:1]]) != 0),
            attributes=np.tile(scene.figure.attributes, (len(times), 1)),
            centre=scene.centres_at(times) * min(height, width),
        )

    def read(self, frames: Frames) -> State:
        places = [place_of(frame[None]) for frame in frames]
        place = np.array([list(PLACES).index(each) for each in places])
        figures = [_figure(frame, each) for frame, each in zip(frames, places, strict=True)]
        return State(
            place=place,
            shot=np.cumsum(np.diff(place, prepend=place[:1]) != 0),
            attributes=np.stack([attributes for attributes, _ in figures]),
            centre=np.stack([centre for _, centre in figures]),
        )


def identity(state: State) -> float:
    """The share of the attributes that are the same, and seen, in a shot and the one after it.

    Of each attribute in a shot its commonest value counts. NaN where there is no cut.
    """
    shots = [state.attributes[state.shot == shot] + 1 for shot in range(state.shot.max() + 1)]
    values = [[np.bincount(values).argmax() for values in shot.T] for shot in shots]
    same = [
        one == two and one > 0
        for before, after in itertools.pairwise(values)
        for one, two in zip(before, after, strict=True)
    ]
    return float(np.mean(same)) if same else float("nan")


def _figure(frame: np.ndarray, place: str) -> tuple[Int[np.ndarray, "6"], Float[np.ndarray, "2"]]:
    """The attributes and the centre of the figure in one picture."""
    attributes, centre = np.full(len(ATTRIBUTES), -1), np.full(2, np.nan)
    labels, shares = unmixed_over(frame[None], place)
    things = [
        (colour, blob)
        for colour in np.unique(labels[labels >= 0]).tolist()
        for blob in blobs(np.where(labels[0] == colour, shares[0], 0))[:1]
    ]
    if not things:
        return attributes, centre
    colour, body = max(things, key=lambda thing: thing[1].area)
    body = _filled(body)
    kind, fits = kind_of(body)
    radius, centre = np.sqrt(body.area / AREA[kind]), np.array(middle(body, kind))
    attributes[0] = KINDS.index(kind) if fits >= _FIT else -1
    attributes[1] = colour
    middling = np.mean(list(SIZES.values())) * min(frame.shape[:2])
    attributes[2] = int(radius > middling)
    hats = [
        thing
        for thing in things
        if thing[0] != colour and thing[1].centre[0] < centre[0] - 0.7 * radius
    ]
    if hats:
        attributes[4], hat = max(hats, key=lambda thing: thing[1].area)
        kind, fits = kind_of(hat)
        attributes[3] = HATS.index(kind) if kind in HATS and fits >= _FIT else -1
    attributes[5] = _eye(frame, centre, EYE * radius, colour)
    return attributes, centre


def _filled(body: Blob) -> Blob:
    """A body without the hole that its eye makes."""
    mask = body.share > 0
    hole = ndimage.binary_dilation(np.asarray(ndimage.binary_fill_holes(mask)) & ~mask)
    share: Share = np.where(hole, 1, body.share)
    down, across = centre_of(share)
    return Blob(centre=(float(down), float(across)), area=float(share.sum()), share=share)


def _eye(frame: np.ndarray, centre: np.ndarray, radius: float, colour: int) -> int:
    """The colour that is nearest to that in the middle of the eye; -1 if it is the body's."""
    rows, columns = (np.arange(size) + 0.5 for size in frame.shape[:2])
    down, across = np.clip(centre, 0.5, np.subtract(frame.shape[:2], 0.5))
    away = np.hypot(rows[:, None] - down, columns - across)
    pixel = np.median(frame[away <= max(1.0, _PUPIL * radius)], axis=0)
    nearest = int(np.abs(levels(COLOURS) - pixel).sum(1).argmin())
    return nearest if nearest != colour else -1
