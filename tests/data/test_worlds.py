"""Promises of procedural clips: deterministic, readable at any rate, and exactly as captioned."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from sora_jax.arrays import Size
from sora_jax.data.datasets import OpenedSource, Source
from sora_jax.data.worlds.sprites import COLOURS, GROUNDS, Sprite, Sprites, draw, render

SIZES = (Size(9, 48, 64), Size(5, 64, 40), Size(1, 32, 32))


def _centres(frames: np.ndarray, sprite: Sprite) -> np.ndarray:
    """(down, across) of the middle of what is not ground, frame by frame."""
    ground = np.asarray(GROUNDS[sprite.ground])
    shape = np.abs(frames.astype(int) - ground).sum(axis=-1) > 60
    return np.asarray([np.argwhere(frame).mean(axis=0) for frame in shape])


def test_a_world_is_a_source() -> None:
    source = Sprites(clips=3)
    assert isinstance(source, Source)
    assert isinstance(source.open(), OpenedSource)


def test_a_clip_is_a_function_of_seed_and_index() -> None:
    first, second = Sprites(clips=6, sizes=SIZES).open(), Sprites(clips=9, sizes=SIZES).open()
    assert first.records == second.records[:6]
    assert draw(0, 3) != draw(0, 4) != draw(1, 4)
    copy = pickle.loads(pickle.dumps(first))
    np.testing.assert_array_equal(copy.read(4, 0, 5), second.read(4, 0, 5))


def test_any_part_of_a_clip_at_any_rate_is_the_same_motion() -> None:
    source = Sprites(clips=1, sizes=(Size(9, 32, 32),), fps=8.0).open()
    whole = source.read(0, 0, 9)
    assert whole.shape == (9, 32, 32, 3)
    np.testing.assert_array_equal(source.read(0, 4, 3), whole[4:7])
    np.testing.assert_array_equal(source.read(0, 0, 99, fps=16)[::2], whole)
    np.testing.assert_array_equal(source.read(0, 1, 2, fps=4), whole[2:5:2])
    assert len(source.read(0, 7, 9)) == 2
    assert len(source.read(0, 9, 9)) == 0


@pytest.mark.parametrize("index", range(24))
def test_captions_say_what_is_seen(index: int) -> None:
    source = Sprites(clips=24, sizes=(Size(9, 48, 64),)).open()
    short, long = source.records[index].captions
    assert (short.kind, long.kind) == ("short", "descriptive")
    sprite, frames = draw(0, index), source.read(index, 0, 9)
    centres = _centres(frames, sprite)
    down, across = centres[-1] - centres[0]
    motion = {
        "left": across < -8 and abs(down) < 1,
        "right": across > 8 and abs(down) < 1,
        "up": down < -8 and abs(across) < 1,
        "down": down > 8 and abs(across) < 1,
        "still": abs(down) < 1e-6 and abs(across) < 1e-6,
    }
    assert [name for name, seen in motion.items() if seen] == [sprite.motion]
    words = short.text.split()
    assert words[1:3] == [sprite.colour, sprite.kind]
    assert ("stands still" in short.text) == (sprite.motion == "still")
    assert sprite.motion == "still" or f"moves {sprite.motion} on a {sprite.ground}" in short.text
    for text in (sprite.colour, sprite.kind, sprite.ground):
        assert text in long.text
    row, column = (int(value) for value in centres[0].round())
    np.testing.assert_array_equal(frames[0, row, column], COLOURS[sprite.colour])


def test_a_shape_never_leaves_the_picture() -> None:
    for index in range(40):
        sprite = draw(5, index)
        frames = render(sprite, np.linspace(0, 1, 5), height=40, width=60)
        covered = np.abs(frames.astype(int) - np.asarray(GROUNDS[sprite.ground])).sum(
            axis=(1, 2, 3)
        )
        # Only the soft edge may be cut where the shape touches the border.
        assert np.ptp(covered) < 0.05 * covered.mean()


def test_an_image_is_captioned_without_motion() -> None:
    record = Sprites(clips=3, sizes=SIZES).open().records[2]
    assert (record.frames, record.fps, record.seconds) == (1, 0.0, 0.0)
    for caption in record.captions:
        assert not any(word in caption.text for word in ("moves", "still", "stays"))


def test_no_size_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one size"):
        Sprites(sizes=()).open()
