"""Promises of the loader: extents, broken files, exact resumption, on any number of hosts."""

from __future__ import annotations

import collections
import dataclasses
import errno
import itertools
import multiprocessing
from typing import Any

import jax
import numpy as np
import pytest

from sora_jax.arrays import Batch, Share
from sora_jax.data import assembly
from sora_jax.data.assembly import Loaded
from sora_jax.data.buckets import Bucket
from sora_jax.data.captions import Bytes
from sora_jax.data.datasets import Broken
from sora_jax.data.framing import Crop, Pad
from sora_jax.data.pipeline import Clips
from sora_jax.data.plan import PlanError
from sora_jax.data.suggest import Suggested
from sora_jax.data.video import VideoError
from tests.data.fake import MIXED, READS, Fake

BOXES = tuple(
    Bucket(frames=frames, height=height, width=width, batch=4)
    for frames in (1, 9, 17)
    for height, width in ((64, 112), (80, 80), (112, 64))
)
CLIPS = Clips(source=MIXED, buckets=BOXES, tokenizer=Bytes(length=32), workers=0)


def load(clips: Clips, steps: range, host: int = 0, hosts: int = 1) -> list[Loaded]:
    with clips.open().loader(start=steps.start, share=Share((host,), hosts)) as loader:
        return list(itertools.islice(loader, len(steps)))


def same(one: Any, other: Any) -> bool:
    leaves, others = jax.tree.leaves(one), jax.tree.leaves(other)
    return len(leaves) == len(others) and all(map(np.array_equal, leaves, others))


def row_of(batch: Batch, index: int) -> Any:
    return jax.tree.map(lambda leaf: leaf[index], batch)


def pixels(batch: Batch) -> np.ndarray:
    assert batch.video is not None
    return np.asarray(batch.video)


def names(loaded: Loaded) -> list[str]:
    """The captions of a batch, back from their tokens."""
    text = loaded.batch.text
    rows = zip(np.asarray(text.tokens), np.asarray(text.length), strict=True)
    return [bytes(tokens[1:length].tolist()).decode() for tokens, length in rows]


def test_each_row_holds_its_window_of_its_clip_with_its_caption():
    data = CLIPS.open()
    for n, (bucket, batch, failed) in enumerate(load(CLIPS, range(data.plan.epoch_steps))):
        planned = data.plan.step(n)
        assert bucket == str(planned.bucket.size) and not failed
        assert pixels(batch).shape == pixels(data.shapes[bucket]).shape
        captions = names(Loaded(bucket, batch, failed))
        for index, row in enumerate(planned.rows):
            if row is None:
                continue
            assert tuple(batch.extent[index]) == row.size
            clip = pixels(batch)[index, : row.frames, : row.height, : row.width]
            assert np.all(clip[..., 0] == row.record + 1)
            frames = (1 + row.start + np.arange(row.frames)) % 256
            assert np.all(clip[..., 1] == frames[:, None, None])
            assert captions[index].endswith(f" {row.record}") or captions[index].endswith(
                f"of {row.record}"
            )


def test_empty_rows_are_zero_with_weight_zero_and_text_of_length_one():
    for _, batch, _ in load(CLIPS, range(CLIPS.open().plan.epoch_steps)):
        for index in np.flatnonzero(batch.weight == 0):
            assert not pixels(batch)[index].any() and not batch.extent[index].any()
            assert batch.text.length[index] == 1
        assert np.array_equal(batch.weight, (batch.extent.min(axis=1) > 0).astype(np.float32))


def test_edges_are_replicated_to_the_factor_and_the_rest_is_zero():
    source = Fake(sizes=((9, 60, 60),))
    box = Bucket(frames=17, height=80, width=80, batch=1)
    _, batch, _ = load(Clips(source=source, buckets=(box,), workers=0), range(1))[0]
    assert tuple(batch.extent[0]) == (9, 60, 60)
    clip = pixels(batch)[0]
    assert np.array_equal(clip[:9, 60:64, :60], np.repeat(clip[:9, 59:60, :60], 4, axis=1))
    assert np.array_equal(clip[:9, :64, 60:64], np.repeat(clip[:9, :64, 59:60], 4, axis=2))
    assert not clip[9:].any() and not clip[:, 64:].any() and not clip[:, :, 64:].any()


def test_a_loader_started_at_a_step_goes_on_as_the_unbroken_one():
    unbroken = load(CLIPS, range(12))
    with CLIPS.open().loader() as loader:
        first = list(itertools.islice(loader, 5))
        state = loader.state()
    assert state == {"step": 5}
    assert same(unbroken, first + load(CLIPS, range(state["step"], 12)))


@pytest.mark.parametrize("hosts", [2, 4])
def test_hosts_together_hold_what_one_host_would(hosts: int):
    whole = load(CLIPS, range(6))
    parts = [load(CLIPS, range(6), host, hosts) for host in range(hosts)]
    for n in range(6):
        joined = jax.tree.map(lambda *leaves: np.concatenate(leaves), *(p[n].batch for p in parts))
        assert same(joined, whole[n].batch)


def test_worker_processes_give_the_same_batches_as_threads():
    here = load(
        dataclasses.replace(CLIPS, source=dataclasses.replace(MIXED, failing=(2,))), range(7)
    )
    workers = dataclasses.replace(
        CLIPS, source=dataclasses.replace(MIXED, failing=(2,)), workers=2, prefetch=2
    )
    assert same(here, load(workers, range(7)))


def test_a_worker_goes_on_for_a_while_when_its_machine_is_to_be_taken_away():
    """The trainer, which gets the signal too, may need another batch to come to an end with."""
    others = set(multiprocessing.active_children())
    clips = dataclasses.replace(CLIPS, workers=1, prefetch=1)
    with clips.open().loader() as batches:
        first = next(batches)
        (worker,) = set(multiprocessing.active_children()) - others
        worker.terminate()
        following = [next(batches) for _ in range(3)]
        worker.join(1)
        assert worker.is_alive()
    worker.join(10)
    assert not worker.is_alive()
    assert same([first, *following], load(CLIPS, range(4)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flaky(Fake):
    """Of each window the first `times` readings fail, as of a network's disk."""

    times: int
    number: int = errno.EIO

    def read(self, index: int, start: int, count: int, *, fps: float | None = None) -> np.ndarray:
        TRIED[index, start] += 1
        if TRIED[index, start] <= self.times:
            raise VideoError(f"clip{index}", "cannot be read") from OSError(self.number, "failed")
        return super().read(index, start, count, fps=fps)


TRIED: collections.Counter[tuple[int, int]] = collections.Counter()


def test_what_storage_fails_to_give_for_a_moment_is_read_again(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(assembly, "_PAUSES", (0.0, 0.0))
    flaky = dataclasses.replace(CLIPS, source=Flaky(sizes=MIXED.sizes, times=2))
    TRIED.clear()
    assert same(load(flaky, range(4)), load(CLIPS, range(4)))
    # What is not there is not looked for again.
    TRIED.clear()
    absent = Flaky(sizes=MIXED.sizes, times=9**9, number=errno.ENOENT)
    # Not so far ahead that a window comes again.
    (one,) = load(dataclasses.replace(CLIPS, source=absent, prefetch=1), range(1))
    assert set(TRIED.values()) == {1}
    assert one.failed and {*one.failed} <= {f"clip{index}" for index, _ in TRIED}


def test_a_row_that_several_processes_hold_is_in_none_of_them_alone_left_empty(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(assembly, "_PAUSES", ())
    TRIED.clear()
    away = dataclasses.replace(CLIPS, source=Flaky(sizes=MIXED.sizes, times=9**9)).open()
    with (
        away.loader(share=Share((0,), 1, copied=True)) as batches,
        pytest.raises(VideoError, match="cannot be read"),
    ):
        next(batches)
    # Of a damaged file all of them know.
    damaged = dataclasses.replace(CLIPS, source=dataclasses.replace(MIXED, failing=(1, 7))).open()
    with damaged.loader(share=Share((0,), 1, copied=True)) as batches:
        assert {name for each in itertools.islice(batches, 8) for name in each.failed}


def test_a_file_that_breaks_becomes_an_empty_row_and_is_named():
    broken = dataclasses.replace(CLIPS, source=dataclasses.replace(MIXED, failing=(1, 7)))
    steps = range(CLIPS.open().plan.epoch_steps)
    whole, damaged = load(CLIPS, steps), load(broken, steps)
    failed: dict[str, str] = {}
    for before, after, n in zip(whole, damaged, steps, strict=True):
        failed |= after.failed
        for index, row in enumerate(CLIPS.open().plan.step(n).rows):
            one, other = row_of(before.batch, index), row_of(after.batch, index)
            if row is not None and row.record in (1, 7):
                assert other.weight == 0 and not other.video.any() and other.text.length == 1
            else:
                assert same(one, other)
    assert failed == {"clip1": "the file broke", "clip7": "the file broke"}


def test_a_file_with_fewer_frames_than_it_said_gives_those_that_it_has():
    source = Fake(sizes=((9, 64, 64), (3, 64, 64)), short=(0, 1))
    box = Bucket(frames=9, height=64, width=64, batch=2)
    _, batch, failed = load(Clips(source=source, buckets=(box,), workers=0), range(1))[0]
    assert sorted(map(tuple, batch.extent)) == [(0, 0, 0), (5, 64, 64)]
    assert failed == {"clip1": "it has no frame 0"}


def test_captions_vary_from_pass_to_pass_in_the_proportion_that_was_set():
    clips = dataclasses.replace(CLIPS, source=Fake(sizes=((1, 64, 64),) * 8))
    for share, low, high in ((0.0, 0, 0), (0.5, 40, 88), (1.0, 128, 128)):
        loaded = load(dataclasses.replace(clips, descriptive_share=share), range(32))
        texts = [text for step in loaded for text in names(step)]
        assert low <= sum("long" in text for text in texts) <= high and len(texts) == 128


def test_small_data_is_read_once_and_comes_as_if_it_were_read_each_time():
    steps = range(2 * CLIPS.open().epoch_steps)
    # A source that no other test reads: theirs may still be reading ahead.
    clips = dataclasses.replace(CLIPS, source=dataclasses.replace(MIXED, name="once"), prefetch=1)
    once = load(clips, steps)
    reads = [read for name, *read in READS if name == "once"]
    assert len(reads) == len({*map(tuple, reads)}) == len(CLIPS.open().plan.windows)
    assert same(once, load(dataclasses.replace(CLIPS, keep_megabytes=0), steps))


def test_a_random_crop_moves_from_pass_to_pass_and_stays_on_resumption():
    source = Fake(sizes=((1, 64, 128),))
    box = Bucket(frames=1, height=64, width=64, batch=1)
    clips = Clips(source=source, buckets=(box,), policy=Crop(place="random"), workers=0)
    loaded = load(clips, range(8))
    lefts = {int(pixels(step.batch)[0, 0, 0, 0, 2]) for step in loaded}
    assert len(lefts) > 4
    assert all(tuple(step.batch.extent[0]) == (1, 64, 64) for step in loaded)
    assert same(loaded[5:], load(clips, range(5, 8)))


def test_small_clips_are_enlarged_only_when_asked():
    source = Fake(sizes=((9, 32, 48),))
    box = Bucket(frames=9, height=64, width=96, batch=1)
    for policy, size in ((Pad(), (9, 32, 48)), (Pad(enlarge=4.0), (9, 64, 96))):
        clips = Clips(source=source, buckets=(box,), policy=policy, workers=0)
        assert tuple(load(clips, range(1))[0].batch.extent[0]) == size


def test_a_source_without_a_usable_clip_is_refused_with_what_is_wrong():
    nothing = Fake(sizes=(), broken=(Broken(name="a.mp4", reason="cut short"),))
    for buckets in (BOXES, Suggested(tokens=512)):
        with pytest.raises(PlanError, match=r"no usable clip(.|\n)*a.mp4: cut short"):
            Clips(source=nothing, buckets=buckets).open()


def test_impossible_buckets_are_refused_when_they_are_written_down():
    with pytest.raises(ValueError, match="buckets is empty"):
        Clips(source=MIXED, buckets=())
    with pytest.raises(ValueError, match="two buckets of 1x64x112"):
        Clips(source=MIXED, buckets=(BOXES[0], BOXES[0]))
    with pytest.raises(ValueError, match="multiple of 16"):
        Clips(source=MIXED, buckets=(Bucket(frames=1, height=60, width=64, batch=1),))


def test_buckets_can_be_derived_from_the_clips():
    data = dataclasses.replace(CLIPS, buckets=Suggested(tokens=512)).open()
    assert set(data.shapes) == {str(bucket.size) for bucket in data.plan.buckets}
    for _, batch, failed in load(
        dataclasses.replace(CLIPS, buckets=Suggested(tokens=512)), range(data.plan.epoch_steps)
    ):
        assert not failed and batch.weight.any()


def test_the_fingerprint_follows_the_data():
    assert CLIPS.open().fingerprint == CLIPS.open().fingerprint
    fewer = dataclasses.replace(CLIPS, source=Fake(sizes=MIXED.sizes[1:]))
    assert fewer.open().fingerprint != CLIPS.open().fingerprint
