"""Promises of the boxes: what goes where, and what is lost on the way."""

from __future__ import annotations

import numpy as np
import pytest

from sora_jax.arrays import Size
from sora_jax.data.buckets import Bucket, Grid, assign, buckets
from sora_jax.data.framing import Crop, Pad, fitted, place, resized
from sora_jax.data.suggest import Suggested, suggest
from tests.data.fake import record

BOXES = buckets(tokens=512, areas=(64 * 64,))


def kinds(clip: Size, boxes: tuple[Bucket, ...] = BOXES) -> list[tuple[int, ...]]:
    """Each window of a clip: its box, where it starts, how many frames are valid."""
    return [(*boxes[w.bucket].size, w.start, w.frames) for w in assign(clip, boxes).windows]


def test_every_bucket_has_the_same_token_budget():
    grid = Grid()
    for bucket in buckets(tokens=2048):
        clip = grid.tokens(bucket.size)
        assert 2048 - clip < bucket.batch * clip <= 2048


def test_batches_are_multiples_when_asked():
    assert all(bucket.batch % 4 == 0 for bucket in buckets(tokens=2048, multiple=4))


def test_sizes_that_do_not_fit_the_grid_are_answered_with_those_that_do():
    with pytest.raises(ValueError, match=r"frames must be 1 \+ a multiple of 4: 9 or 13"):
        buckets(tokens=2048, frames=(10,))
    with pytest.raises(ValueError, match=r"width must be a multiple of 16.*: 48 or 64"):
        Grid().check(Bucket(frames=1, height=32, width=60, batch=1))
    with pytest.raises(ValueError, match="batch must be at least 1"):
        Bucket(frames=1, height=32, width=32, batch=0)
    with pytest.raises(ValueError, match="raise it to 192"):
        buckets(tokens=100, frames=(9,), aspects=((1, 1),))


def test_a_clip_goes_to_the_box_of_its_shape():
    assert kinds(Size(9, 360, 640)) == [(9, 48, 80, 0, 9)]
    assert kinds(Size(1, 640, 360)) == [(1, 80, 48, 0, 1)]
    assert kinds(Size(17, 400, 400)) == [(17, 64, 64, 0, 17)]


def test_a_clip_goes_where_it_keeps_its_resolution():
    boxes = tuple(Bucket(frames=9, height=n, width=n, batch=1) for n in (32, 64, 128))
    assert kinds(Size(9, 1080, 1080), boxes) == [(9, 128, 128, 0, 9)]
    assert kinds(Size(9, 64, 64), boxes) == [(9, 64, 64, 0, 9)]


def test_long_videos_become_consecutive_windows_and_the_rest_is_counted():
    assert kinds(Size(45, 64, 64)) == [
        (17, 64, 64, 0, 17),
        (17, 64, 64, 17, 17),
        (9, 64, 64, 34, 9),
    ]
    assert assign(Size(45, 64, 64), BOXES).dropped == 2


def test_longer_windows_are_preferred_to_a_few_more_frames():
    assert kinds(Size(36, 64, 64))[0][0] == 17
    assert assign(Size(36, 64, 64), BOXES).dropped == 2


def test_a_short_clip_is_padded_to_1_plus_4k_frames_or_gives_a_still():
    assert kinds(Size(8, 64, 64)) == [(9, 64, 64, 0, 5)]
    assert assign(Size(8, 64, 64), BOXES).dropped == 3
    assert kinds(Size(2, 64, 64)) == [(1, 64, 64, 0, 1)]


def test_stills_go_to_boxes_of_one_frame_and_videos_are_never_cut_into_stills():
    assert kinds(Size(1, 64, 64)) == [(1, 64, 64, 0, 1)]
    only_stills = buckets(tokens=512, frames=(1,), areas=(64 * 64,))
    assert len(kinds(Size(100, 64, 64), only_stills)) == 1
    only_videos = buckets(tokens=512, frames=(9,), areas=(64 * 64,))
    assert kinds(Size(1, 64, 64), only_videos) == [(9, 64, 64, 0, 1)]


def test_the_loss_is_zero_for_a_clip_that_is_its_box_and_grows_with_each_kind_of_loss():
    def loss(clip: Size) -> float:
        return assign(clip, (Bucket(frames=9, height=64, width=64, batch=1),)).loss

    assert loss(Size(9, 64, 64)) == 0
    assert 0 < loss(Size(11, 64, 64)) < loss(Size(13, 64, 64)) < 1
    assert 0 < loss(Size(9, 80, 80)) < loss(Size(9, 128, 128)) < 1
    assert 0 < loss(Size(9, 64, 48)) < loss(Size(9, 64, 32)) < 1


def test_no_clip_is_without_a_window():
    for clip in (Size(1, 1, 1), Size(2, 1, 5000), Size(10_000, 2160, 16)):
        assert assign(clip, BOXES).windows
    with pytest.raises(ValueError, match="no buckets"):
        assign(Size(1, 8, 8), ())


def test_small_pictures_are_never_enlarged_unless_asked():
    box = Size(9, 128, 128)
    assert fitted(30, 40, box=box) == (30, 40)
    assert fitted(30, 40, box=box, enlarge=2.0) == (60, 80)
    assert fitted(30, 40, box=box, enlarge=100.0) == (96, 128)


def test_the_aspect_ratio_is_kept_and_the_picture_fits():
    for height, width in ((1080, 1920), (1920, 1080), (333, 777), (3, 4000)):
        got_height, got_width = fitted(height, width, box=Size(1, 112, 160))
        assert got_height <= 112 and got_width <= 160
        assert got_height == 1 or abs(got_width / got_height / (width / height) - 1) < 0.02


def test_edges_are_replicated_up_to_the_factor_and_zero_follows():
    clip = np.random.default_rng(0).integers(1, 255, (5, 11, 13, 3), np.uint8)
    box = np.zeros((9, 32, 32, 3), np.uint8)
    place(clip, box, factor=Size(4, 8, 8))
    assert np.array_equal(box[:5, :11, :13], clip)
    assert np.array_equal(box[:5, 11:16, :13], np.repeat(clip[:, -1:], 5, axis=1))
    assert np.array_equal(box[:5, :11, 13:16], np.repeat(clip[:, :, -1:], 3, axis=2))
    assert np.array_equal(box[:5, 15, 15], clip[:, -1, -1])
    assert not box[5:].any() and not box[:, 16:].any() and not box[:, :, 16:].any()


def test_resizing_averages_what_it_removes():
    stripes = np.zeros((2, 64, 64, 3), np.uint8)
    stripes[:, :, ::2] = 200
    assert np.all(np.abs(resized(stripes, 8, 8).astype(int) - 100) <= 2)
    assert np.array_equal(resized(stripes, 64, 64), stripes)


def test_a_crop_is_square_in_the_middle_or_anywhere():
    rng = np.random.default_rng(0)
    assert Crop().region(90, 160) == (90, 90) and Crop().region(160, 90) == (90, 90)
    assert Crop().corner(90, 160, rng) == (0, 35)
    corners = {Crop(place="random").corner(90, 160, rng) for _ in range(200)}
    assert min(corners) == (0, 0) and max(corners) == (0, 70) and len(corners) > 40
    assert Pad().region(90, 160) == (90, 160)


SIZES = [(1080, 1920), (720, 1280), (480, 854), (1920, 1080), (480, 640), (360, 640), (600, 600)]
RECORDS = [record(i, (20 + 7 * i, *SIZES[i % len(SIZES)])) for i in range(60)]


def test_suggested_buckets_waste_little_crop_nothing_and_are_few():
    grid = Grid()
    boxes = suggest(RECORDS, 2048)
    assert len(boxes) <= 16
    used = paid = 0
    rows = dict.fromkeys(boxes, 0)
    for clip in RECORDS:
        for window in assign(Size(clip.frames, clip.height, clip.width), boxes).windows:
            used += grid.tokens(window.size)
            rows[boxes[window.bucket]] += 1
    for box, number in rows.items():
        assert number, f"nothing goes to {box}"
        assert grid.tokens(box.size) * box.batch <= 2048
        paid += -(-number // box.batch) * box.batch * grid.tokens(box.size)
    assert used / paid >= 0.95


def test_suggestions_do_not_depend_on_the_order_of_the_clips():
    assert suggest(RECORDS, 2048) == suggest(RECORDS[::-1], 2048)


def test_suggestions_leave_out_lengths_that_no_clip_has():
    stills = [record(i, (1, 100, 100 + i)) for i in range(9)]
    assert {box.frames for box in suggest(stills, 2048)} == {1}
    assert suggest([], 2048) == ()


def test_suggested_shapes_are_limited_and_batches_are_multiples():
    many = [record(i, (9, 100 + 10 * i, 400)) for i in range(40)]
    assert len(suggest(many, 2048, shapes=3)) <= 3
    assert all(box.batch % 2 == 0 for box in suggest(many, 2048, multiple=2))
    assert Suggested(tokens=2048, shapes=3).suit(many) == suggest(many, 2048, shapes=3)
