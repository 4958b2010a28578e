"""Clips longer than those of the training: planned, made hop by hop, stopped and gone on with."""

import logging

import numpy as np
import pytest

from sora_jax.data.video import read_clip, read_metadata
from sora_jax.generation.rollout import CONTEXT, Kept, plan_hops
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
        assert (hop.at, hop.given) == (0, made) or hop.at == 1 <= hop.given <= CONTEXT
        made += hop.new
    # Few programs are compiled.
    assert len({hop.length for hop in hops}) == 1


def test_of_an_unknown_window_all_is_one_hop():
    (hop,) = plan_hops(5, 100, window=None)
    assert hop.new == 100 and hop.given == 5


def test_a_model_of_images_cannot_go_on():
    with pytest.raises(ValueError, match="too few to go on from"):
        plan_hops(1, 1, window=1)


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
    with pytest.raises(ValueError, match="parts of another clip"):
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


def test_the_need_for_memory_is_told_before_the_work(caplog):
    with caplog.at_level(logging.INFO, logger="sora_jax"):
        untrained().generate("red", frames=1, **SIZE, **FAST, progress=True)
    assert "1x16x24 needs about" in caplog.text
