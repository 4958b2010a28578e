"""Contact sheets: clips as rows of sampled frames under their captions, in one picture."""

from __future__ import annotations

import bisect
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

_MARGIN = 4
_TEXT = 14
_PAPER = (255, 255, 255)
_INK = (0, 0, 0)


def contact_sheet(
    clips: Sequence[UInt8[np.ndarray, "_ _ _ 3"]],
    captions: Sequence[str],
    *,
    columns: int = 6,
    height: int = 128,
) -> UInt8[np.ndarray, "sheet_height sheet_width 3"]:
    """One picture with a row a clip: its caption above up to `columns` evenly spaced frames.

    Frames of any size are scaled to `height` pixels. A caption too long for its row ends in an
    ellipsis. Raises ValueError if there is no clip, or not one caption a clip.
    """
    if not clips or len(clips) != len(captions):
        raise ValueError(f"a contact sheet of {len(clips)} clips and {len(captions)} captions")
    strips = [_strip(clip, columns, height) for clip in clips]
    width = max(strip.width for strip in strips) + 2 * _MARGIN
    row = _TEXT + height + 3 * _MARGIN
    sheet = Image.new("RGB", (width, row * len(clips)), _PAPER)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(_TEXT)
    for index, (strip, caption) in enumerate(zip(strips, captions, strict=True)):
        top = index * row + _MARGIN
        text = _fitted(" ".join(caption.split()), width - 2 * _MARGIN, draw, font)
        draw.text((_MARGIN, top), text, _INK, font)
        sheet.paste(strip, (_MARGIN, top + _TEXT + _MARGIN))
    return np.asarray(sheet)


def _strip(clip: UInt8[np.ndarray, "frames _ _ 3"], columns: int, height: int) -> Image.Image:
    """Evenly spaced frames side by side."""
    places = np.linspace(0, len(clip) - 1, min(columns, len(clip))).round().astype(int)
    width = max(1, round(clip.shape[2] * height / clip.shape[1]))
    step = width + _MARGIN
    strip = Image.new("RGB", (step * len(places) - _MARGIN, height), _PAPER)
    for column, place in enumerate(places):
        frame = Image.fromarray(clip[place]).resize((width, height), Image.Resampling.LANCZOS)
        strip.paste(frame, (column * step, 0))
    return strip


def _fitted(
    text: str,
    width: int,
    draw: ImageDraw.ImageDraw,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> str:
    if draw.textlength(text, font) <= width:
        return text
    fitting = bisect.bisect_right(
        range(len(text)), width, key=lambda kept: draw.textlength(text[:kept] + "…", font)
    )
    return text[: max(fitting - 1, 0)] + "…"
