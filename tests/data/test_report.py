"""Promises of what `describe` says about data."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from sora_jax.data.buckets import Bucket, buckets
from sora_jax.data.datasets import Broken
from sora_jax.data.framing import Crop
from sora_jax.data.pipeline import Clips
from sora_jax.data.report import describe, render
from sora_jax.data.suggest import Suggested
from tests.data.fake import MIXED, Fake

CLIPS = Clips(source=MIXED, buckets=Suggested(tokens=512, pixels=64 * 64), workers=0)


def test_every_clip_is_told_with_the_bucket_it_goes_to():
    report = describe(CLIPS)
    assert [clip.name for clip in report.clips] == [record.name for record in MIXED.records]
    assert all(clip.buckets and clip.windows for clip in report.clips)
    assert sum(clip.windows for clip in report.clips) == sum(b.windows for b in report.buckets)
    assert report.usable and report.problem is None
    text = render(report)
    assert all(clip.name in text and clip.buckets[0] in text for clip in report.clips)


def test_frames_are_all_accounted_for():
    report = describe(CLIPS)
    data = CLIPS.open()
    assert report.frames == sum(size[0] for size in MIXED.sizes)
    assert report.dropped == report.frames - data.plan.windows.frames.sum()
    assert report.batches == data.plan.epoch_steps


def test_useful_tokens_are_what_the_loader_gives():
    report = describe(CLIPS)
    data = CLIPS.open()
    used = paid = 0.0
    with data.loader() as loader:
        for _ in range(data.plan.epoch_steps):
            bucket, batch, _ = next(loader)
            frames, height, width = np.asarray(batch.extent).T
            tokens = (1 + np.ceil((frames - 1) / 4)) * np.ceil(height / 16) * np.ceil(width / 16)
            used += tokens.sum()
            frames, height, width = map(int, bucket.split("x"))
            paid += len(batch.weight) * (1 + (frames - 1) // 4) * height * width / 256
    assert report.useful == pytest.approx(used / paid)


def test_cropped_pixels_are_counted_and_padding_crops_none():
    assert describe(CLIPS).cropped == 0
    source = Fake(sizes=((9, 100, 200),))
    boxes = buckets(tokens=512, areas=(64 * 64,))
    report = describe(Clips(source=source, buckets=boxes, policy=Crop()))
    assert report.cropped == 0.5


def test_unreadable_files_are_named_with_the_reason_and_clips_without_caption_too():
    broken = tuple(Broken(name=f"bad{i}.mp4", reason=f"cut at {i}") for i in range(60))
    source = dataclasses.replace(MIXED, broken=broken)
    report = describe(dataclasses.replace(CLIPS, source=source))
    text = render(report, longest=3)
    assert all(f"bad{i}.mp4: cut at {i}" in text for i in range(60))
    assert "and 7 more" in text
    assert "without caption" in text and not report.uncaptioned


def test_nothing_usable_is_said_and_is_no_crash():
    source = Fake(sizes=(), broken=(Broken(name="[a].png", reason="not an image"),))
    for boxes in (CLIPS.buckets, (Bucket(frames=1, height=64, width=64, batch=1),)):
        report = describe(dataclasses.replace(CLIPS, source=source, buckets=boxes))
        assert not report.usable
        assert "nothing to train on" in str(report.problem)
        assert "[a].png: not an image" in render(report)


def test_a_bucket_that_no_clip_needs_is_shown_as_unused():
    boxes = buckets(tokens=2048, frames=(1, 9, 65))
    assert "unused" in render(describe(dataclasses.replace(CLIPS, buckets=boxes)))


def test_a_share_of_images_that_cannot_be_met_is_told_before_training():
    source = Fake(sizes=((9, 64, 64),))
    report = describe(dataclasses.replace(CLIPS, source=source, image_share=0.2))
    assert "set it to None" in str(report.problem)


def test_the_report_is_json():
    form = json.loads(json.dumps(describe(CLIPS).to_json()))
    assert form["useful"] > 0.5 and form["clips"][0]["name"] == "clip0"
