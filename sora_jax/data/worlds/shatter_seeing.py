"""What is seen of things that fall and break, and what it says of how a clip keeps to physics."""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import ndimage

from sora_jax.data.worlds.palette import COLOURS, PLACES, colours_over
from sora_jax.data.worlds.seeing import Blob, kind_of, place_of, unmixed
from sora_jax.data.worlds.world import Frames

TABLE = (100, 50, 10)
BLACK = (20, 20, 20)
APART = 2.5
"""Pixels between pieces from which on they can be told apart."""
TOUCHES, CLEAR = 0.5, 1.5
"""Pixels above the floor: up to the first a thing surely touches it, from the second on not."""

_BETWEEN = 1.0
_CORE_AREA = 0.03
"""The least part of a ball of rubber that is black and not at the edge of what is black."""
_ROUND = 0.88
"""The least fit of something whole with a disc of its area. (That of two halves is smaller.)"""
_SOME, _MOST = 0.25, 0.6
"""How much of a pixel belongs to a thing at its edge; pieces must be apart by either."""
_LEAST = 3.0
_OPEN = 0.05
"""The least part of a row of pixels above the floor that is ground."""
_BESIDE = np.ones((3, 3))


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class State:
    """What is seen of the disc or of its pieces; -1 where a number is not to be told.

    colour  index into COLOURS; -1 where nothing is seen.
    rubber  whether it has a black middle.
    pieces  1 while it is whole, their number when all pieces are apart. -1 while it breaks: the
            truth promises no number until there are 2.5 pixels between any two of them.
    area    of all there is, in pixels.
    centre  (down, across) of the centre of mass of it all, in pixels; NaN where nothing is seen.
            While it breaks, cracks are too thin for area and centre to be promised exactly.
    touches 1 where some of it is on the floor, 0 where none is; the truth leaves open between half
            a pixel and one and a half.
    floor   how far down the floor is, in pixels: the height of the picture, or a table's top.
    """

    place: str
    colour: int
    rubber: Bool[np.ndarray, " frames"]
    pieces: Int[np.ndarray, " frames"]
    area: Float[np.ndarray, " frames"]
    centre: Float[np.ndarray, "frames 2"]
    touches: Int[np.ndarray, " frames"]
    floor: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Thing:
    """What is seen in one picture; `lowest` is how far down it reaches."""

    pieces: int = -1
    rubber: bool = False
    area: float = 0.0
    centre: tuple[float, float] = (np.nan, np.nan)
    lowest: float = -np.inf


def read(frames: Frames) -> State:
    """The state that is seen in pictures."""
    place = place_of(frames)
    floor = _floor(frames, place)
    # A colour that hardly differs from the ground would be found in its noise.
    names = colours_over(place)
    colours = [COLOURS[name] for name in names]
    if np.abs(np.array(BLACK) - PLACES[place]).max() > 50:
        colours.append(BLACK)
    if floor < frames.shape[1]:
        # Blur mixes the table into the row above it.
        colours.append(TABLE)
    labels, shares = unmixed(frames[:, :floor], PLACES[place], np.array(colours, np.float32))
    amounts = [float(shares[labels == each].sum()) for each in range(len(names))]
    most = int(np.argmax(amounts))
    colour = list(COLOURS).index(names[most]) if amounts[most] >= _LEAST * len(frames) else -1
    shares = np.where(labels == most, shares, 0) if colour >= 0 else np.zeros_like(shares)
    things = [_thing(share) for share in shares]
    gaps = np.array([floor - thing.lowest for thing in things])
    return State(
        place=place,
        colour=colour,
        rubber=np.array([thing.rubber for thing in things], bool),
        pieces=np.array([thing.pieces for thing in things], int),
        area=np.array([thing.area for thing in things], float),
        centre=np.array([thing.centre for thing in things], float).reshape(-1, 2),
        touches=np.where(gaps < _BETWEEN, 1, 0),
        floor=floor,
    )


def _floor(frames: Frames, place: str) -> int:
    """The row of pixels at which a table begins, or the height of the picture.

    A table has the whole width, so that above it some ground is to be seen even between pieces.
    """
    brown, ground = (
        np.abs(frames - np.asarray(colour, np.float32)).sum(-1) for colour in (TABLE, PLACES[place])
    )
    above = np.nonzero((ground <= brown).mean((0, 2)) > _OPEN)[0]
    return int(above[-1]) + 1 if len(above) else frames.shape[1]


def _thing(share: np.ndarray) -> _Thing:
    """What of one colour is seen in one picture, of how much of each pixel it covers."""
    share = np.where(_sized(share, _SOME)[1], share, 0)
    solid = share > 0.5
    filled = np.zeros_like(solid)
    ndimage.binary_fill_holes(solid, output=filled)
    # The cracks of what has just broken are thin; a ball's middle is not.
    core = ndimage.binary_erosion(filled & ~solid)
    black = core.any() and core.sum() >= _CORE_AREA * filled.sum()
    if black:
        share = np.where(ndimage.binary_erosion(filled), 1, share)
    total = float(share.sum())
    if total < _LEAST:
        return _Thing()
    down, across = (
        (share.sum(1 - axis) * (np.arange(share.shape[axis]) + 0.5)).sum() for axis in (0, 1)
    )
    blob = Blob(centre=(float(down / total), float(across / total)), area=total, share=share)
    pieces = _pieces(blob)
    bottoms = np.where(share >= _SOME, np.arange(len(share))[:, None] + share, -np.inf)
    return _Thing(
        pieces=pieces,
        rubber=bool(black) and pieces == 1,
        area=total,
        centre=blob.centre,
        lowest=float(bottoms.max()),
    )


def _pieces(blob: Blob) -> int:
    """1 for a disc, otherwise how many things there are; -1 if that is not clear."""
    counts = [_sized(blob.share, least)[0] for least in (_SOME, _MOST)]
    if counts[0] != counts[1] or not counts[0]:
        return -1
    if counts[0] > 1:
        return counts[0]
    kind, fit = kind_of(blob)
    return 1 if kind == "circle" and fit >= _ROUND else -1


def _sized(share: np.ndarray, least: float) -> tuple[int, np.ndarray]:
    """How many connected things of more than a few pixels there are, and where they are.

    least  how much of a pixel must be covered for it to belong to one.
    """
    names = np.zeros(share.shape, int)
    ndimage.label(share > least, _BESIDE, output=names)
    large = np.bincount(names.ravel(), share.ravel()) >= _LEAST
    large[0] = False
    return int(large.sum()), large[names]


def breaks_without_contact(state: State) -> bool:
    """Whether it is in pieces in some frame though nothing has touched the floor until then."""
    broken = np.nonzero(state.pieces > 1)[0]
    touching = np.nonzero(state.touches == 1)[0]
    return bool(len(broken) and (not len(touching) or touching[0] > broken[0]))


def breaks_at_contact(state: State, *, within: int = 8) -> bool | None:
    """Whether it is in pieces at most `within` frames after it has first touched the floor.

    None where that is not to be told: nothing touches the floor, or the clip ends or nothing is
    left before that many frames have passed; and where it broke already before. (Pieces need some
    frames to come apart.)
    """
    touching = np.nonzero(state.touches == 1)[0]
    if not len(touching) or breaks_without_contact(state):
        return None
    soon = state.pieces[touching[0] : touching[0] + within + 1]
    if (soon > 1).any():
        return True
    left = not _vanished(state)[touching[0] : touching[0] + within + 1].any()
    return False if len(soon) > within and left else None


def area_error(state: State) -> float:
    """The greatest |dA| / A against the first, of frames that tell the pieces; NaN if none do.

    1 where it has vanished.
    """
    told = state.area[state.pieces > 0]
    if not len(told):
        return float("nan")
    area = np.concatenate([told, state.area[_vanished(state)]])
    return float(np.abs(area - told[0]).max() / told[0])


def _vanished(state: State) -> np.ndarray:
    """Frames in which nothing is seen any longer."""
    return (state.area == 0) & (np.maximum.accumulate(state.area) > 0)


def pieces_after(state: State) -> int:
    """How many pieces there are in the last frame that tells; 0 if it never breaks, -1 if it is
    gone."""
    gone = _vanished(state)
    last = np.flatnonzero(gone | (state.pieces >= 0))
    if len(last) and gone[last[-1]]:
        return -1
    told = state.pieces[state.pieces >= 0]
    return int(told[-1]) if len(told) and told.max() > 1 else 0


def reassembles(state: State) -> bool:
    """Whether there are at any time fewer pieces than before, each number for two frames in a row;
    none as well, once there was something.

    (In the air one piece may pass so near to another that both are seen as one for a moment.)
    """
    pieces = np.where(_vanished(state), 0, state.pieces)
    held = pieces[1:][(pieces[1:] == pieces[:-1]) & (pieces[1:] >= 0)]
    return bool((np.diff(held) < 0).any())
