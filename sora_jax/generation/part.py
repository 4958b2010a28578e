"""The part of a clip that `retake` makes anew: a span of frames, a rectangle of pixels, or both."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any, NamedTuple

from sora_jax.arrays import Size


class Box(NamedTuple):
    """A rectangle of pixels: from `top` and `left` to before `bottom` and `right`."""

    top: int
    left: int
    bottom: int
    right: int


class Part(NamedTuple):
    """Frames from the first to before the last, and the pixels of them."""

    span: tuple[int, int]
    box: Box

    @classmethod
    def of(
        cls,
        size: Size,
        span: tuple[int, int] | None,
        box: tuple[int, int, int, int] | None,
    ) -> Part:
        """The part of a clip of `size` pixels; without a span all frames, without a box all pixels.

        Raises ValueError where it does not lie in the clip.
        """
        first, end = span or (0, size.frames)
        if end > size.frames:
            raise ValueError(
                f"span {first} to {end} does not lie in a clip of {size.frames} frames"
            )
        box = box or (0, 0, size.height, size.width)
        part = cls((first, end), Box(*box))
        if part.box.bottom > size.height or part.box.right > size.width:
            raise ValueError(
                f"box {_told(box)} does not lie in a picture of {size.height} x {size.width} pixels"
            )
        return part

    def places(self, factor: Size, patch: Size) -> tuple[slice, slice, slice]:
        """The latents of all tokens, of `patch` latents each, that hold a pixel of it.

        Of an autoencoder that reduces by `factor`. A token has one diffusion time, so that it is
        made as a whole or not at all.
        """
        (first, end), box = self.span, self.box
        latents = (
            # The first latent is frame 0; latent k ends with frame k times the factor.
            (-(-first // factor.frames), -(-(end - 1) // factor.frames) + 1),
            (box.top // factor.height, -(-box.bottom // factor.height)),
            (box.left // factor.width, -(-box.right // factor.width)),
        )
        times, rows, columns = (
            slice(begin // side * side, -(-stop // side) * side)
            for (begin, stop), side in zip(latents, patch, strict=True)
        )
        return times, rows, columns

    @staticmethod
    def of_places(places: tuple[slice, slice, slice], factor: Size, size: Size) -> Part:
        """All that latents hold of a clip of `size` pixels."""
        times, rows, columns = places
        first = max(0, 1 + factor.frames * (times.start - 1))
        end = min(1 + factor.frames * (times.stop - 1), size.frames)
        box = Box(
            top=factor.height * rows.start,
            left=factor.width * columns.start,
            bottom=min(factor.height * rows.stop, size.height),
            right=min(factor.width * columns.stop, size.width),
        )
        return Part((first, end), box)


def check_part(span: Any, box: Any) -> None:
    """Raises ValueError for what is no part of any clip, and where none is asked for."""
    if span is None and box is None:
        raise ValueError("no part is asked for; give span, box or both")
    told = (("span", span, "a first frame and an end"), ("box", box, "top, left, bottom and right"))
    for (name, given, parts), count in zip(told, (2, 4), strict=True):
        if given is not None and not _integers(given, count):
            raise ValueError(f"{name}={given!r}: give {count} whole numbers, {parts}")
    if span and not 0 <= span[0] < span[1]:
        raise ValueError(
            f"span {span[0]} to {span[1]} holds no frames; give a first from 0 on and an end beyond"
        )
    if box and not (0 <= box[0] < box[2] and 0 <= box[1] < box[3]):
        raise ValueError(
            f"box {_told(box)} holds no pixels; give top and left from 0 on, and bottom and right "
            "beyond them"
        )


def _integers(given: Any, count: int) -> bool:
    whole = isinstance(given, Sequence) and all(isinstance(x, Integral) for x in given)
    return whole and len(given) == count


def _told(box: tuple[int, int, int, int]) -> str:
    return "{}, {}, {}, {} (top, left, bottom, right)".format(*box)
