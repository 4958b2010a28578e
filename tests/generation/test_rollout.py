"""Clips longer than those of the training: planned, made hop by hop, stopped and gone on with."""

import dataclasses

import jax
import numpy as np
import pytest

from sora_jax.arrays import Size
from sora_jax.data.video import read_clip, read_metadata
from sora_jax.generation.canvas import Canvas
from sora_jax.generation.pipeline import Pipeline
from sora_jax.generation.rollout import HISTORY, LEAST, Kept, plan_hops, plan_windows
from sora_jax.generation.settings import Sampling
from tests.generation.untrained import FAST, same, untrained

SIZE = {"height": 16, "width": 24}


@pytest.mark.parametrize("window", [4, 5, 9])
@pytest.mark.parametrize("past", [0, 1, 4, 9, 30])
@pytest.mark.parametrize("count", [1, 4, 40])
def test_hops_make_what_is_asked_for_within_the_window(past: int, count: int, window: int):
    hops = plan_hops(past, count, window=window)
    assert sum(hop.new for hop in hops) == count
    made = past
    for hop in hops:
        assert hop.length <= window or (len(hops) == 1 and hop.length == past + count)
        assert hop.at + hop.given + hop.new <= hop.length
        # All that there is, or the last ones behind a first latent that is thrown away.
        assert (hop.at, hop.given) == (0, made) or hop.at == 1 <= hop.given <= HISTORY
        made += hop.new
    # Few programs are compiled.
    assert len({hop.length for hop in hops}) == 1


def test_of_an_unknown_window_all_is_one_hop():
    (hop,) = plan_hops(5, 100, window=None)
    assert hop.new == 100 and hop.given == 5


def test_a_model_of_images_cannot_go_on():
    with pytest.raises(ValueError, match="too few to go on from"):
        plan_hops(1, 1, window=1)
    with pytest.raises(ValueError, match="too few to go on from"):
        plan_windows([True] * 3, window=2)


@pytest.mark.parametrize("window", [3, 4, 5, 9])
@pytest.mark.parametrize("frames", [10, 14, 25])
@pytest.mark.parametrize("asked", [(0, None), (0, 1), (3, 5), (6, 9), (4, None), (-1, None)])
def test_windows_make_what_is_asked_for_behind_what_they_are_given(window, frames, asked):
    wanted = np.zeros(frames, bool)
    wanted[slice(*asked)] = True
    windows, left = plan_windows(wanted.tolist(), window=window), wanted.copy()
    for start, new, stop in windows:
        assert left[new:stop].all() and not left[:new].any()
        left[new:stop] = False
        end = start + window - (start > 0)
        assert stop <= end <= frames
        # The past of what is new: all, or a few latents behind one that is thrown away.
        assert start == 0 or new - start >= min(LEAST, (window - 1) // 2)
    assert not left.any()
    # What follows the last one is seen where the window has room for it.
    if windows and window == 9:
        assert end >= min(stop + LEAST, frames)


def test_a_canvas_longer_than_the_window_keeps_what_is_given_to_the_bit():
    rng = np.random.default_rng(0)
    latent = rng.normal(size=(1, 14, 2, 3, 8)).astype(np.float32)
    level = rng.choice([0.0, 0.6, 1.0], size=(14, 2, 3))
    level[4:7] = 0
    canvas, how = (
        Canvas.blank(Size(14, 2, 3), 8).put(latent, at=0, level=level),
        Sampling.of(**FAST),
    )
    made = untrained(frames=17).sampled(canvas, "red", how)
    assert np.array_equal((made != latent).any(-1)[0], level > 0)
    # Nothing depends on windows where one holds all.
    short = Canvas.blank(Size(5, 2, 3), 8).put(latent[:, :5], at=0, level=level[:5])
    one, other = (untrained(frames=n).sampled(short, "red", how) for n in (0, 17))
    assert np.array_equal(one, other)


def test_a_long_clip_has_all_of_its_frames_and_a_beginning_of_its_own():
    long = untrained(frames=17).generate("red", frames=50, **SIZE, **FAST)
    assert long.frames.shape == (50, 16, 24, 3)
    short = untrained(frames=17).generate("red", frames=17, **SIZE, **FAST)
    assert same(long.frames[:17], short.frames)


def test_a_clip_that_was_stopped_is_gone_on_with(tmp_path, monkeypatch):
    pipeline, out = untrained(frames=17), tmp_path / "long.mp4"
    settings = {"frames": 50, "seed": 3, **SIZE, **FAST}
    pipeline.generate("red", **settings).save(tmp_path / "whole.mp4")
    sampled = []
    sample = type(pipeline).sample

    def counted(self, *arguments, **named):
        sampled.append(1)
        if len(sampled) == 3:
            raise KeyboardInterrupt
        return sample(self, *arguments, **named)

    monkeypatch.setattr(type(pipeline), "sample", counted)
    with pytest.raises(KeyboardInterrupt):
        pipeline.generate_to(out, "red", **settings)
    assert not out.exists() and len(list((tmp_path / "long.mp4.parts").glob("hop*"))) == 2
    with pytest.raises(ValueError, match=r"another clip \(prompt red, not green\); remove"):
        pipeline.generate_to(out, "green", **settings)
    pipeline.generate_to(out, "red", **settings)
    hops = len(plan_hops(0, 14, window=5))
    assert len(sampled) == 3 + hops - 2
    # Decoded in other chunks, which changes some values by rounding before they are compressed.
    made, whole = read_clip(out), read_clip(tmp_path / "whole.mp4")
    assert made.shape == whole.shape and np.abs(made.astype(int) - whole).mean() < 1
    assert read_metadata(out)["prompt"] == "red"
    assert not (tmp_path / "long.mp4.parts").exists()


def test_parts_that_were_cut_off_while_written_do_not_count(tmp_path):
    kept = Kept.open(tmp_path / "parts", {"prompt": "red"})
    (tmp_path / "parts/hop_00000.npy.part").write_bytes(b"half")
    assert kept.read(0) is None
    kept.write(0, np.ones((1, 2, 2, 2, 8), np.float32))
    assert Kept.open(tmp_path / "parts", {"prompt": "red"}).read(0).sum() == 64


def test_hops_that_no_record_tells_of_are_removed(tmp_path, caplog):
    folder = tmp_path / "parts"
    Kept.open(folder, {"prompt": "red"}).write(0, np.ones((1, 2, 2, 2, 8), np.float32))
    (folder / "settings.json").rename(folder / "settings.json.part")  # killed while it was written
    assert Kept.open(folder, {"prompt": "green"}).read(0) is None
    assert "hop_00000.npy: removed" in caplog.text


def test_parts_of_other_weights_are_those_of_another_clip(tmp_path, monkeypatch):
    pipeline, out = untrained(frames=17), tmp_path / "long.mp4"
    with monkeypatch.context() as stopped:
        stopped.setattr("sora_jax.generation.pipeline.write_stream", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            pipeline.generate_to(out, "red", frames=21, **SIZE, **FAST)
    weights = jax.tree.map(np.array, pipeline.params)
    weights["model"]["head"] = jax.tree.map(lambda x: x + 1e-3, weights["model"]["head"])
    other = dataclasses.replace(pipeline, params=weights)
    assert other.fingerprint() != pipeline.fingerprint() == untrained(frames=33).fingerprint()
    with pytest.raises(ValueError, match="parts of another clip"):
        other.generate_to(out, "red", frames=21, **SIZE, **FAST)
    pipeline.generate_to(out, "red", frames=21, **SIZE, **FAST)
    # Nor is what they finished taken for this one's.
    made = out.read_bytes()
    with monkeypatch.context() as idle:
        idle.setattr(Pipeline, "sample", lambda *_, **__: 1 / 0)
        pipeline.generate_to(out, "red", frames=21, again=False, **SIZE, **FAST)
    other.generate_to(out, "red", frames=21, again=False, **SIZE, **FAST)
    assert out.read_bytes() != made
