"""Each task on what a user may bring: any length and size; and mistakes, each with its remedy."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sora_jax.data.video import write_video
from sora_jax.evaluation.frames import psnr
from sora_jax.generation.clip import Clip
from tests.generation.untrained import FAST, clip, same, untrained


@pytest.fixture
def told(caplog: Any):
    caplog.set_level(logging.INFO, logger="sora_jax")
    return caplog


def given_back(frames: np.ndarray) -> np.ndarray:
    codec = untrained().codec()
    return codec.decode(codec.encode(frames))[0][
        : len(frames), : frames.shape[1], : frames.shape[2]
    ]


def kept(made: np.ndarray, old: np.ndarray) -> bool:
    """Whether frames are as near to what was given as the autoencoder gives them back."""
    return bool(psnr(made, old).min() > psnr(given_back(old), old).min() - 2)


def test_an_image_begins_its_animation():
    image = clip(1, 13, 21)
    made = untrained().animate(image[0], "red", frames=7, **FAST)
    assert made.frames.shape == (7, 13, 21, 3) and made.metadata["task"] == "animate"
    assert same(made.frames[:1], given_back(image))


def test_an_image_of_another_aspect_ratio_is_fitted_and_that_is_said(tmp_path, told):
    Image.fromarray(clip(1, 30, 60)[0]).save(tmp_path / "wide.png")
    made = untrained().animate(tmp_path / "wide.png", frames=2, height=24, width=24, **FAST)
    assert made.frames.shape == (2, 12, 24, 3)
    assert "made 12x24 of 30x60" in told.text and "aspect ratio is kept" in told.text


def test_a_video_stands_for_its_first_frame(told):
    made = untrained().animate(clip(5), frames=2, **FAST)
    assert same(made.frames[:1], given_back(clip(5)[:1])) and "first 1 of 5" in told.text


@pytest.mark.parametrize("count", [1, 6])
@pytest.mark.parametrize("frames", [1, 6])
def test_a_clip_is_extended_by_what_is_asked_for(count: int, frames: int):
    old = clip(count)
    forward = untrained().extend(old, "red", frames=frames, **FAST)
    assert forward.frames.shape == (count + frames, 16, 24, 3)
    backward = untrained().extend(old, "red", frames=frames, direction="backward", **FAST)
    assert backward.frames.shape == (count + frames, 16, 24, 3)
    # Nothing that comes later changes a causal decoding; what comes before, the first latents.
    assert kept(forward.frames[:count], old)
    assert psnr(backward.frames[-1:], old[-1:])[0] > psnr(given_back(old), old).min() - 6


def test_beginnings_differ_and_share_one_ending():
    old = clip(12)
    one, two = (
        untrained().extend(old, frames=8, direction="backward", seed=seed, **FAST).frames
        for seed in (1, 2)
    )
    assert not same(one[:8], two[:8], within=8)
    assert psnr(one[-4:], two[-4:]).min() > 30


def test_extensions_longer_than_the_window_go_hop_by_hop():
    pipeline, old = untrained(frames=17), clip(9)
    for direction in ("forward", "backward"):
        made = pipeline.extend(old, frames=30, direction=direction, **FAST)
        assert made.frames.shape == (39, 16, 24, 3)


def test_a_long_clip_is_extended_from_its_end():
    made = untrained(frames=17).extend(clip(40), frames=8, **FAST)
    assert made.frames.shape == (48, 16, 24, 3)


def test_a_loop_of_a_clip_holds_the_clip_and_closes(told):
    old = clip(18)
    made = untrained().loop(old, frames=8, **FAST)
    # The last two frames fill no latent: 16 of the clip, and 10 rounded up to 12.
    assert made.frames.shape == (28, 16, 24, 3)
    assert "last 2 frames" in told.text and "12 frames for 10" in told.text
    assert kept(made.frames[8:16], old[8:16])


def test_a_loop_of_a_prompt_alone():
    made = untrained().loop(prompt="red", frames=16, height=16, width=20, **FAST)
    assert made.frames.shape == (16, 16, 20, 3)


def test_edits_keep_more_of_the_clip_where_they_are_weaker():
    old = clip(9)
    assert same(untrained().edit(old, "red", strength=0.0, **FAST).frames, given_back(old))
    near, far = (
        psnr(untrained().edit(old, "red", strength=s, **FAST).frames, old).mean()
        for s in (0.2, 0.9)
    )
    assert near > far
    ramp = untrained().edit(old, "red", strength=(0.0, 1.0), **FAST).frames
    assert psnr(ramp[:1], old[:1])[0] > psnr(ramp[-1:], old[-1:])[0]


def test_clips_are_connected_whole_whatever_their_rates_and_sizes(told):
    first, second = clip(6), Clip(frames=clip(16, 32, 32, seed=2), fps=16.0, metadata={})
    made = untrained().connect(first, second, frames=7, **FAST)
    assert made.frames.shape == (6 + 8 + 8, 16, 24, 3)
    assert "8 frames per second, not 16" in told.text
    assert "made 16x24 of 32x32" in told.text and "8 frames for 7" in told.text
    assert kept(made.frames[:6], first)


def test_a_retake_leaves_the_rest_alone():
    old = clip(13, 32, 32)
    part = untrained().retake(old, "red", box=(0, 0, 8, 16), **FAST).frames
    assert same(part[:, 24:, 24:], given_back(old)[:, 24:, 24:], within=16)
    assert not same(part[:, :8, :16], given_back(old)[:, :8, :16], within=32)
    span = untrained().retake(old, "red", span=(5, 9), **FAST).frames
    assert same(span[:5], given_back(old)[:5])
    assert not same(span[5:9], given_back(old)[5:9], within=32)
    assert kept(span[-1:], old[-1:])


def test_files_are_read_at_the_rate_of_the_model(tmp_path, told):
    write_video(tmp_path / "fast.mp4", clip(20, 16, 16), fps=16)
    made = untrained().extend(tmp_path / "fast.mp4", frames=4, **FAST)
    assert len(made.frames) == 10 + 4 and "8 frames per second, not 16" in told.text


def test_a_small_clip_is_refined_to_its_composition():
    small = untrained().generate("red", frames=5, height=16, width=16, **FAST)
    fine = untrained().refine(small, "red", height=32, width=32, strength=0.3, **FAST)
    assert fine.frames.shape == (5, 32, 32, 3)
    reduced = fine.frames.reshape(5, 16, 2, 16, 2, 3).mean((2, 4)).astype(np.uint8)
    other = untrained().generate("red", frames=5, height=16, width=16, seed=9, **FAST)
    assert psnr(reduced, small.frames).mean() > psnr(reduced, other.frames).mean()


MISTAKES = {
    "give numbers in 0..1": lambda p: p.edit(clip(5), "x", strength=1.5),
    "span 3 to 9 does not lie in a clip of 5": lambda p: p.retake(clip(5), "x", span=(3, 9)),
    "does not lie in a picture of 16 x 24": lambda p: p.retake(clip(5), "x", box=(0, 0, 9, 99)),
    "needs at least 8": lambda p: p.loop(clip(5)),
    "at least the 4 of one latent": lambda p: p.connect(clip(5), clip(5), frames=2),
    "give at most 0": lambda p: p.connect(clip(5), clip(5), frames=16),
    "24 frames in a loop are more .* at most 8": lambda p: p.loop(prompt="x", frames=24),
    "forward or backward": lambda p: p.extend(clip(5), direction="up"),
    "at least one new frame": lambda p: p.extend(clip(5), frames=0),
    "give uint8": lambda p: p.extend(np.zeros((5, 8, 8, 3))),
    "impossible": lambda p: p.animate(clip(1), frames=0),
    "both start at 1": lambda p: p.animate(clip(1), height=0),
    "strength=2": lambda p: p.refine(clip(5), "x", height=32, width=32, strength=2.0),
}


@pytest.mark.parametrize("message", MISTAKES)
def test_mistakes_are_told_with_their_remedy(message: str):
    with pytest.raises(ValueError, match=message):
        MISTAKES[message](untrained(frames=17))
