"""Each task on what a user may bring: any length and size; and mistakes, each with its remedy."""

from __future__ import annotations

import logging
from typing import Any

import jax
import numpy as np
import pytest
from PIL import Image

from sora_jax.arrays import Size
from sora_jax.data.framing import resized
from sora_jax.data.video import write_video
from sora_jax.diffusion.guidance import Guidance
from sora_jax.diffusion.samplers import Euler
from sora_jax.evaluation.frames import psnr
from sora_jax.evaluation.joins import changes
from sora_jax.generation import inputs, memory, model
from sora_jax.generation.canvas import Canvas
from sora_jax.generation.clip import Clip
from sora_jax.generation.inputs import read_frames
from sora_jax.generation.model import GenerativeModel
from sora_jax.generation.part import check_part
from sora_jax.generation.settings import Sampling, key_of, spread
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


def canvases(monkeypatch: Any) -> list[Any]:
    """What is sampled from now on, as (canvas, settings)."""
    seen, sample = [], type(untrained()).sample

    def noted(self: Any, canvas: Any, prompts: Any, how: Any, **named: Any) -> Any:
        seen.append((canvas, how))
        return sample(self, canvas, prompts, how, **named)

    monkeypatch.setattr(type(untrained()), "sample", noted)
    return seen


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


@pytest.mark.parametrize("size", [(16, 24), (29, 13)])
@pytest.mark.parametrize(("count", "frames"), [(1, 1), (1, 6), (6, 1), (6, 6)])
def test_a_clip_is_extended_by_what_is_asked_for(count: int, frames: int, size: tuple[int, int]):
    old = clip(count, *size)
    forward = untrained().extend(old, "red", frames=frames, **FAST)
    assert forward.frames.shape == (count + frames, *size, 3)
    backward = untrained().extend(old, "red", frames=frames, direction="backward", **FAST)
    assert backward.frames.shape == (count + frames, *size, 3)
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
        made = pipeline.extend(old, frames=30, direction=direction, **FAST).frames
        assert made.shape == (39, 16, 24, 3)
        given, new = (made[:9], made[9:]) if direction == "forward" else (made[-9:], made[:-9])
        # A causal decoder carries what comes before into the first latent that is given.
        assert kept(given[1:], old[1:]) and psnr(given[:1], old[:1])[0] > 15
        assert not same(new[:15], new[15:], within=8), "hops differ"


def test_a_long_clip_is_extended_from_its_end(monkeypatch):
    old, seen = clip(41), canvases(monkeypatch)
    made = untrained(frames=17).extend(old, frames=8, **FAST).frames
    assert made.shape == (49, 16, 24, 3) and same(made[:41], given_back(old))
    # Behind a first latent that is thrown away: the last ones of the clip.
    latent = untrained().codec().encode(old)
    assert np.array_equal(seen[0][0].reference[:, 1:3], latent[:, -2:])


def test_hops_that_are_given_what_hops_made_are_shown_a_little_noise(monkeypatch):
    seen = canvases(monkeypatch)
    untrained(frames=17).extend(clip(9), frames=30, direction="backward", **FAST)
    assert [how.given_noise for _, how in seen] == [0.0, *[0.02] * (len(seen) - 1)]
    assert len(seen) > 2
    seen.clear()
    untrained(frames=17).extend(clip(9), frames=30, **FAST)
    assert [how.given_noise for _, how in seen] == [0.0, *[0.02] * (len(seen) - 1)]
    assert len(seen) > 2


def test_a_loop_of_a_clip_holds_the_clip_and_closes(told, monkeypatch):
    turn = 2 * np.pi * (np.arange(28)[:, None] / 28 + np.arange(3) / 3)
    colours = (127 + 100 * np.sin(turn)).astype(np.uint8)
    whole = np.broadcast_to(colours[:, None, None], (28, 24, 16, 3))
    old, pipeline = whole[:18], untrained()
    # What a good model would make: what is missing of a clip that goes round.
    way = pipeline.codec().encode_lone(whole)[:, 4:]
    monkeypatch.setattr(type(pipeline), "bridge", lambda *_, **__: way)
    made = pipeline.loop(old, frames=8, **FAST).frames
    # The last two frames fill no latent: 16 of the clip, and 10 rounded up to 12.
    assert made.shape == (28, 24, 16, 3)
    assert "the last 2 of 18 frames" in told.text and "12 frames for 10" in told.text
    assert kept(made[:16], old[:16]) and kept(made, whole)
    # This autoencoder stands still within a latent; at the end it jumps as at all other joints.
    joints = changes(np.concatenate([made, made[:1]]))[3::4]
    assert joints[-1] < 1.2 * np.median(joints[:-1])


def test_the_way_back_leads_from_the_end_of_a_clip_to_its_beginning(monkeypatch):
    old, seen = clip(16), canvases(monkeypatch)
    made = untrained(frames=33).loop(old, frames=16, **FAST).frames
    ((canvas, _),) = seen
    latent = untrained().codec().encode_lone(old)
    assert canvas.reference.shape[1] == 9
    assert np.array_equal(canvas.reference[:, 1:3], latent[:, -2:])
    assert np.array_equal(canvas.reference[:, 7:], latent[:, :2])
    assert np.asarray(canvas.known)[0, :, 0, 0].tolist() == [0, 1, 1, 0, 0, 0, 0, 1, 1]
    assert len(made) == 32 and kept(made[4:16], old[4:16])


@pytest.mark.parametrize("count", [16, 17, 18, 19])
def test_clips_of_any_length_loop_within_the_window(count: int, told):
    made = untrained(frames=33).loop(clip(count), **FAST).frames
    assert len(made) == 32
    assert ("16 frames, the most that this model can" in told.text) == (count > 16)
    assert (f"the last {count - 16} of {count} frames" in told.text) == (count > 16)


def test_a_loop_of_a_prompt_alone():
    made = untrained().loop(prompt="red", frames=16, height=16, width=20, **FAST)
    assert made.frames.shape == (16, 16, 20, 3)


def test_a_loop_of_a_prompt_alone_is_cut_open_at_another_place_at_each_step(monkeypatch):
    cuts, sampled = [], []
    ring, sample = model.ring, type(untrained()).sample

    def cut(*arguments: Any, offset: Any, **named: Any) -> Any:
        jax.debug.callback(lambda place: cuts.append(int(place)), offset)
        return ring(*arguments, offset=offset, **named)

    def noted(*arguments: Any, **named: Any) -> Any:
        sampled.append(np.asarray(sample(*arguments, **named)))
        return sampled[-1]

    monkeypatch.setattr(model, "ring", cut)
    monkeypatch.setattr(type(untrained()), "sample", noted)
    # Of settings that no other test has, so that it is not compiled yet.
    made = untrained().loop(prompt="red", frames=12, height=8, width=8, steps=3, guidance=1.5)
    jax.effects_barrier()
    assert cuts == [0, 1, 2]
    # Decoded behind its own end, which a clip with a beginning is not.
    (latent,), codec = sampled, untrained().codec()
    assert same(made.frames, codec.decode_ring(latent))
    again = codec.decode_ring(np.roll(latent, 1, axis=1))
    assert same(made.frames, np.roll(again, -4, axis=0))


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


@pytest.mark.parametrize("task", ["edit", "retake", "refine"])
def test_clips_longer_than_the_window_are_changed_window_by_window(task: str, monkeypatch):
    old, seen, pipeline = clip(97), canvases(monkeypatch), untrained(frames=17)
    if task == "edit":
        made = pipeline.edit(old, "red", strength=0.6, **FAST).frames
    elif task == "refine":
        made = pipeline.refine(old, "red", height=24, width=40, **FAST).frames
    else:
        made = pipeline.retake(old, "red", span=(41, 61), **FAST).frames
        # Two hops for five latents; what lies before them is as it was given.
        assert len(seen) == 3 and same(made[:41], given_back(old)[:41])
        assert kept(made[73:], old[73:])
        assert not same(made[41:61], given_back(old)[41:61], within=32)
    assert len(made) == 97
    assert {canvas.reference.shape[1] for canvas, _ in seen} == {5}


def test_clips_are_connected_whole_whatever_their_rates_and_sizes(told):
    first, second = clip(6), Clip(frames=clip(16, 32, 32, seed=2), fps=16.0, metadata={})
    made = untrained().connect(first, second, frames=7, **FAST)
    assert made.frames.shape == (6 + 8 + 8, 16, 24, 3)
    assert "8 frames per second, not 16" in told.text
    assert "stretched to 16x24 of 32x32" in told.text and "8 frames for 7" in told.text
    assert kept(made.frames[:6], first)
    assert kept(made.frames[-8:], resized(second.frames[::2], 16, 24))


def test_tasks_have_a_guidance_of_their_own(monkeypatch):
    pipeline = untrained()

    class Told(Exception):
        """Instead of the sampling, which need not be done to know how it would be."""

    def told(self: Any, canvas: Any, prompts: Any, how: Sampling, **_: Any) -> None:
        raise Told(how.guidance)

    monkeypatch.setattr(GenerativeModel, "sample", told)

    def guided(task: Any, **settings: Any) -> Guidance:
        with pytest.raises(Told) as caught:
            task(steps=1, **settings)
        return caught.value.args[0]

    def connect(**settings: Any) -> Clip:
        return pipeline.connect(clip(5), clip(5), frames=4, **settings)

    def loop(**settings: Any) -> Clip:
        return pipeline.loop(clip(8), frames=4, **settings)

    def animate(**settings: Any) -> Clip:
        return pipeline.animate(clip(1), frames=2, **settings)

    assert guided(animate, prompt="red") == Guidance(scale=3.0)
    for task in (connect, loop):
        assert guided(task, prompt="red") == Guidance(scale=3.0, given=1.5)
        assert guided(task, prompt="red", guidance=2.0) == Guidance(scale=2.0, given=1.5)
        assert guided(task, prompt="red", guidance=Guidance()) == Guidance()
        # An empty prompt is what guidance leads away from.
        assert guided(task) == Guidance(scale=1.0, given=1.5)
    assert guided(animate) == guided(animate, prompt="red", negative="red") == Guidance()
    assert guided(animate, negative="red") == Guidance(scale=3.0)


def test_a_retake_leaves_the_rest_alone():
    old = clip(13, 40, 32)
    part = untrained().retake(old, "red", box=(0, 0, 16, 16), **FAST).frames
    # The decoder carries what is new one latent further.
    assert same(part[:, 24:], given_back(old)[:, 24:])
    assert same(part[:, :, 24:], given_back(old)[:, :, 24:])
    assert not same(part[:, :16, :16], given_back(old)[:, :16, :16], within=32)
    span = untrained().retake(old, "red", span=(5, 9), **FAST).frames
    assert same(span[:5], given_back(old)[:5])
    assert not same(span[5:9], given_back(old)[5:9], within=32)
    assert kept(span[-1:], old[-1:])


def test_a_retake_of_whole_pictures_does_not_see_what_they_showed():
    old = clip(13, 40, 32)
    other = old.copy()
    other[5:9] = 255 - other[5:9]
    one, two = (
        untrained().retake(each, "red", span=(5, 9), **FAST).frames for each in (old, other)
    )
    assert np.array_equal(one, two)


def test_a_retake_is_of_whole_tokens_and_that_is_said(told):
    old = clip(13, 40, 29)
    # Latents of 8 x 8 pixels, and tokens of 2 x 2 latents.
    untrained().retake(old, "red", span=(4, 6), box=(3, 24, 9, 29), **FAST)
    assert "frames 1 to 9, Box(top=0, left=16, bottom=16, right=29)" in told.text
    told.clear()
    untrained().retake(old, "red", span=(5, 9), box=(16, 0, 32, 29), **FAST)
    assert "whole tokens" not in told.text


def test_no_token_of_a_retake_is_partly_given(monkeypatch):
    seen = canvases(monkeypatch)
    untrained().retake(clip(5, 40, 40), "red", box=(0, 8, 24, 32), **FAST)
    (canvas, _), patch = seen[0], untrained().denoiser.model.patch
    start = np.asarray(canvas.start)[0, 0]
    assert patch == (1, 2, 2) and start.shape == (5, 5)
    assert start[:4, :4].all() and not start[4:].any() and not start[:, 4:].any()


@pytest.mark.parametrize("task", ["edit", "retake"])
def test_what_is_edited_is_not_made_of_the_noise_that_made_it(task: str, monkeypatch):
    noises, drawn = [], model.start_noise

    def noted(*args: Any) -> Any:
        noises.append(drawn(*args))
        return noises[-1]

    monkeypatch.setattr(model, "start_noise", noted)
    canvas = Canvas.blank(Size(2, 2, 3), 8)
    how = Sampling.of(**FAST, seed=3)
    untrained().sample(canvas, ["red"], how, keys=key_of(3)[None])
    old, part = clip(5), {"strength": 1.0} if task == "edit" else {"span": (1, 5)}
    getattr(untrained(), task)(old, "red", seed=3, **part, **FAST)
    one, other = map(np.asarray, noises)
    assert one.shape == other.shape and abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.3


def test_a_clip_has_as_many_frames_whether_it_is_a_file_or_not(tmp_path):
    frames = clip(17, 24, 16)
    write_video(tmp_path / "fast.mp4", frames, fps=16)
    of_file = read_frames(tmp_path / "fast.mp4", fps=8.0)
    of_clip = read_frames(Clip(frames=frames, fps=16.0, metadata={}), fps=8.0)
    assert of_file.shape == of_clip.shape == (9, 24, 16, 3)
    assert np.array_equal(of_clip, frames[::2]) and psnr(of_file, of_clip).min() > 25


def test_a_file_that_is_made_smaller_is_read_a_part_at_a_time(tmp_path, monkeypatch):
    write_video(tmp_path / "large.mp4", clip(17, 48, 32), fps=8)
    whole = read_frames(tmp_path / "large.mp4", fps=8.0, height=24)
    monkeypatch.setattr(inputs, "_PART", 5 * 48 * 32 * 3)
    parts = read_frames(tmp_path / "large.mp4", fps=8.0, height=24)
    assert parts.shape == (17, 24, 16, 3) and np.array_equal(parts, whole)
    monkeypatch.setattr(memory, "available_bytes", lambda: 1)
    with pytest.raises(MemoryError, match=r"large.mp4: its 17 frames of 24 x 16 pixels"):
        read_frames(tmp_path / "large.mp4", fps=8.0, height=24)


def test_files_are_read_at_the_rate_of_the_model(tmp_path, told):
    write_video(tmp_path / "fast.mp4", clip(20, 16, 16), fps=16)
    made = untrained().extend(tmp_path / "fast.mp4", frames=4, **FAST)
    assert len(made.frames) == 10 + 4 and "8 frames per second, not 16" in told.text


def test_another_aspect_ratio_is_refined_to_what_is_asked_for_and_that_is_said(told):
    fine = untrained().refine(clip(1, 16, 21), "red", height=32, width=43, **FAST)
    assert fine.frames.shape == (1, 32, 43, 3) and "stretched" not in told.text
    untrained().refine(clip(1, 16, 24), "red", height=32, width=32, **FAST)
    assert "small: stretched, made 32x32 of 16x24" in told.text


def test_a_small_clip_is_refined_to_its_composition(told):
    small = untrained().generate("red", frames=5, height=16, width=16, **FAST)
    fine = untrained().refine(small, "red", height=32, width=32, strength=0.3, **FAST)
    assert fine.frames.shape == (5, 32, 32, 3) and "stretched" not in told.text
    reduced = fine.frames.reshape(5, 16, 2, 16, 2, 3).mean((2, 4)).astype(np.uint8)
    other = untrained().generate("red", frames=5, height=16, width=16, seed=9, **FAST)
    assert psnr(reduced, small.frames).mean() > psnr(reduced, other.frames).mean()


def test_a_clip_is_refined_from_the_noise_that_it_was_made_of(monkeypatch):
    begun, sample = [], type(untrained()).sample

    def noted(self: Any, canvas: Any, *arguments: Any, **named: Any) -> Any:
        noise = named.get("noise")
        if noise is None:
            noise = model.start_noise(named["keys"], canvas.reference.shape)
        begun.append(np.asarray(noise))
        return sample(self, canvas, *arguments, **named)

    monkeypatch.setattr(type(untrained()), "sample", noted)
    how: dict[str, Any] = {"seed": 3, **FAST}
    small = untrained().generate("red", frames=5, height=16, width=16, **how)
    untrained().refine(small, "red", height=32, width=32, strength=1.0, **how)
    coarse, fine = begun
    # Means of 2 x 2 places, which have half the deviation of one.
    means = fine.reshape(1, 2, 2, 2, 2, 2, 8).mean((3, 5))
    np.testing.assert_allclose(2 * means, coarse, atol=1e-5)
    untrained().refine(small, "red", height=32, width=32, strength=1.0, **how | {"seed": 4})
    assert not np.allclose(begun[-1], fine)


MISTAKES = {
    "give numbers in 0..1": lambda p: p.edit(clip(5), "x", strength=1.5),
    r"strength=\(\): give numbers": lambda p: p.edit(clip(5), "x", strength=()),
    "span 3 to 9 does not lie in a clip of 5": lambda p: p.retake(clip(5), "x", span=(3, 9)),
    "does not lie in a picture of 16 x 24": lambda p: p.retake(clip(5), "x", box=(0, 0, 9, 99)),
    "give span, box or both": lambda p: p.retake(clip(5), "x"),
    "span 3 to 3 holds no frames": lambda p: p.retake(clip(5), "x", span=(3, 3)),
    "span -1 to 3 holds no frames": lambda p: p.retake(clip(5), "x", span=(-1, 3)),
    "box 0, 8, 9, 8 .* holds no pixels": lambda p: p.retake(clip(5), "x", box=(0, 8, 9, 8)),
    "box 8, 0, 8, 9 .* holds no pixels": lambda p: p.retake(clip(5), "x", box=(8, 0, 8, 9)),
    f"seed={2**63}: give an integer": lambda p: p.edit(clip(5), "x", seed=2**63),
    f"seed={-(2**63) - 1}: give an integer": lambda p: p.generate("x", seed=-(2**63) - 1),
    f"seed={2**63 - 1}: those of 2 clips": lambda p: p.generate(["x", "y"], seed=2**63 - 1),
    "needs at least 8": lambda p: p.loop(clip(5)),
    "at least the 4 of one latent": lambda p: p.connect(clip(5), clip(5), frames=2),
    "16 frames are more .* too short": lambda p: p.connect(
        clip(5), clip(5), frames=16, strength=1.0
    ),
    "15 frames are more .* at most 8": lambda p: p.connect(
        clip(1), clip(1), frames=15, strength=(0.0, 0.5)
    ),
    "steps=2 beside a sampler": lambda p: p.image("x", steps=2, sampler=Euler(steps=2)),
    r"box=\(0, 0, 8\): give 4 whole": lambda _: check_part(None, (0, 0, 8)),
    r"span=\(1.5, 4\): give 2 whole": lambda _: check_part((1.5, 4), None),
    "span=5: give 2 whole": lambda _: check_part(5, None),
    "size 8x0x64": lambda p: p.loop(prompt="x", frames=8, height=0),
    "23 frames are more .* at most 8": lambda p: p.loop(prompt="x", frames=23),
    "strength=1.5: give numbers": lambda p: p.connect(clip(5), clip(5), strength=1.5),
    r"strength=\(0.0, 2.0\): give": lambda p: p.connect(clip(5), clip(5), strength=(0.0, 2.0)),
    "forward or backward": lambda p: p.extend(clip(5), direction="up"),
    "at least one new frame": lambda p: p.extend(clip(5), frames=0),
    "give uint8": lambda p: p.extend(np.zeros((5, 8, 8, 3))),
    "impossible": lambda p: p.animate(clip(1), frames=0),
    "both start at 1": lambda p: p.animate(clip(1), height=0),
    "strength=2": lambda p: p.refine(clip(5), "x", height=32, width=32, strength=2.0),
}


def test_each_seed_of_64_bits_makes_another_clip():
    seeds = (0, -1, 2**32 - 1, 2**32, 2**63 - 1, -(2**63))
    made = [untrained().image("red", height=16, width=16, seed=seed, **FAST) for seed in seeds]
    assert [int(clip.metadata["seed"]) for clip in made] == list(seeds)
    assert len({clip.frames.tobytes() for clip in made}) == len(seeds)


def test_settings_of_what_is_given_where_nothing_is_are_told(told):
    settings: dict[str, Any] = FAST | {"guidance": Guidance(scale=2.0, given=2.0)}
    made = untrained().edit(clip(5), "red", given_noise=0.1, **settings)
    assert "guidance given and given_noise: does nothing, as all is made anew" in told.text
    assert made.metadata["given_noise"] == "0.0" and "given=1.0" in made.metadata["guidance"]
    told.clear()
    untrained().loop(prompt="red", frames=4, height=16, width=16, **FAST)
    untrained().edit(clip(5), "red", **FAST)
    assert "does nothing" not in told.text
    untrained().retake(clip(5), "red", span=(0, 5), given_noise=0.1, **FAST)
    assert "given_noise: does nothing" in told.text


def test_clips_are_connected_by_more_than_the_model_sees_at_once():
    first, second = clip(5), clip(5, seed=2)
    made = untrained(frames=17).connect(first, second, frames=24, **FAST).frames
    assert len(made) == 5 + 24 + 5 and kept(made[:5], first) and kept(made[29:], second)


@pytest.mark.parametrize("message", MISTAKES)
def test_mistakes_are_told_with_their_remedy(message: str):
    with pytest.raises(ValueError, match=message):
        MISTAKES[message](untrained(frames=17))


def test_what_connects_is_both_clips_going_on_while_one_fades_into_the_other():
    pipeline, first, second = untrained(), clip(5), clip(5, seed=2)
    how: dict[str, Any] = {"frames": 4, **FAST, "guidance": Guidance(given=1.5)}
    onward = pipeline.extend(first, **how).frames[5:]
    back = pipeline.extend(second, **how, direction="backward").frames[:4]
    share = np.linspace(0, 1, 6)[1:-1, None, None, None]
    faded = np.rint((1 - share) * onward + share * back).astype(np.uint8)
    made = pipeline.connect(first, second, **how).frames
    codec = pipeline.codec()
    latent = codec.encode(np.concatenate([first, faded]))
    after = codec.encode_lone(second)
    assert same(made, codec.decode(np.concatenate([latent, after], axis=1))[0][:14])
    assert not same(made[5:9], pipeline.connect(first, second, strength=1.0, **how).frames[5:9])


@pytest.mark.parametrize("strength", [0.0, 0.6, 1.0])
def test_a_strength_of_connect_is_that_of_all_that_is_new(strength: float):
    first, second = clip(5), clip(5, seed=2)
    one, other = (
        untrained().connect(first, second, frames=8, strength=given, **FAST).frames
        for given in (strength, (strength,) * 2)
    )
    assert np.array_equal(one, other)


def test_a_ramp_of_connect_keeps_both_clips_and_makes_what_is_between_its_ends(monkeypatch):
    first, second, seen = clip(5), clip(5, seed=2), canvases(monkeypatch)
    how: dict[str, Any] = {"frames": 12, **FAST}
    made = untrained().connect(first, second, strength=(0.0, 1.0, 0.0), **how).frames
    # The clips, three new latents, the second clip.
    assert np.asarray(seen[-1][0].start)[0, :, 0, 0].tolist() == [0, 0, 0, 1, 0, 0, 0]
    faded = untrained().connect(first, second, **how).frames
    assert len(made) == 5 + 12 + 5 and kept(made[:5], first) and kept(made[-1:], second[-1:])
    assert same(made[:9], faded[:9]) and not same(made[9:13], faded[9:13], within=32)


@pytest.mark.parametrize(
    ("count", "levels"),
    [(3, [0, 1, 0]), (4, [0, 1, 1, 0]), (5, [0, 0.5, 1, 0.5, 0])],
)
def test_no_moment_of_a_strength_is_lost_between_two_latents(count: int, levels: list[float]):
    assert spread(np.array([0, 1, 0], np.float32), count).ravel().tolist() == levels
    assert spread(np.array([0.5], np.float32), count).ravel().tolist() == [0.5] * count
    assert spread(np.float32([1, 0, 1]), count).ravel().tolist() == [1 - each for each in levels]


def test_strengths_that_are_lost_on_the_way_are_told(told):
    assert spread(np.float32([0, 1, 0, 0, 0, 0, 1]), 3).ravel().tolist() == [0, 0, 1]
    assert "strength: the 3 latents have [0.0, 0.0, 1.0]" in told.text
    told.clear()
    spread(np.linspace(0, 1, 17) ** 2, 5)
    assert not told.text


def test_a_strength_for_each_frame_is_that_of_the_frames_where_latents_end():
    assert spread(np.linspace(0, 1, 17), 5).ravel().tolist() == [0, 0.25, 0.5, 0.75, 1]
    for lost in ([0, 1, 0], [0.2, 1, 0.2], [1, 0.5, 1], [0, 0.04, 0]):
        with pytest.raises(ValueError, match=r"2 latents would have .* give 2 numbers or fewer"):
            spread(np.float32(lost), 2)
    with pytest.raises(ValueError, match="give 1 numbers or fewer"):
        spread(np.float32([0, 1, 0]), 1)
    assert not spread(np.zeros(3), 2).any()
