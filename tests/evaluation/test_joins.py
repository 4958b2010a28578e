"""Measures of joins tell real clips from cuts, fades and standstills."""

import numpy as np
import pytest

from sora_jax.arrays import Size
from sora_jax.data.worlds.source import Worlds
from sora_jax.data.worlds.sprites import Sprites
from sora_jax.evaluation import joins

AT = 9


@pytest.fixture(scope="module")
def clips() -> list[np.ndarray]:
    source = Worlds(clips=24, worlds=(Sprites(most=1),), sizes=(Size(17, 48, 48),), seed=7)
    data = source.open()
    return [data.read(index, 0, 17) for index in range(24)]


def pairs(clips):
    return zip(clips, [*clips[1:], clips[0]], strict=True)


def test_real_neighbours_have_no_seam_and_a_cut_has(clips):
    real = np.array([joins.seam_ratio(clip, AT) for clip in clips])
    cut = np.array([joins.seam_ratio(joins.hard_cut(*pair, AT), AT) for pair in pairs(clips)])
    assert abs(real.mean() - 1) < 0.1 and cut.min() > 3


def test_a_frozen_frame_and_a_fade_change_how_things_move(clips):
    real = np.mean([joins.velocity_mismatch(clip, AT) for clip in clips])
    still = np.mean([joins.velocity_mismatch(joins.frozen(clip, AT, 8), AT) for clip in clips])
    fades = [joins.cross_fade(*pair, AT - 2, AT + 2) for pair in pairs(clips)]
    assert still > real + 0.3
    assert np.mean([joins.velocity_mismatch(clip, AT) for clip in fades]) > real + 0.3
    assert joins.velocity_mismatch(clips[0][:1].repeat(17, 0), AT) == 0


def test_one_frame_on_a_side_tells_no_velocity(clips):
    for at in (1, len(clips[0]) - 1):
        with pytest.raises(ValueError, match="two frames on both sides"):
            joins.velocity_mismatch(clips[0], at)


def test_velocity_is_read_in_pixels_per_frame():
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 255, (64, 96, 3), np.uint8)
    moved = np.stack([picture[8:56, 8 + 2 * i : 56 + 2 * i] for i in range(10)])
    turned = np.concatenate([moved[:5], moved[:4][::-1]])
    assert joins.velocity_mismatch(moved, 5) < 0.2
    assert abs(joins.velocity_mismatch(turned, 5) - 4) < 0.5


def test_pictures_too_small_to_see_a_move_in_are_refused():
    with pytest.raises(ValueError, match="3x8 pixels are too small"):
        joins.velocity_mismatch(np.zeros((6, 3, 8, 3), np.uint8), 3)
    assert joins.velocity_mismatch(np.zeros((6, 8, 8, 3), np.uint8), 3) == 0


def test_a_loop_that_closes_has_no_seam(clips):
    there_and_back = [np.concatenate([clip, clip[-2:0:-1]]) for clip in clips]
    assert np.mean([joins.loop_closure(clip) for clip in there_and_back]) < 1.5
    assert np.mean([joins.loop_closure(clip) for clip in clips]) > 3


def test_a_border_shows_where_halves_are_of_different_clips(clips):
    halves = [np.concatenate([a[:, :, :24], b[:, :, 24:]], axis=2) for a, b in pairs(clips)]
    assert np.mean([joins.border_ratio(clip, 24) for clip in halves]) > 10
    assert np.mean([joins.border_ratio(clip, 24) for clip in clips]) < 3
    # Each column is brighter by 2 than that before it, and one by 9.
    slope = np.arange(0, 48, 2, dtype=np.uint8)[None, None, :, None].repeat(3, axis=3)
    assert joins.border_ratio(slope, 7) == 1
    slope[:, :, 7:] += 7
    assert joins.border_ratio(slope, 7) == pytest.approx(9.25 / 2.25)


def test_a_border_without_columns_on_both_sides_is_refused(clips):
    for at in (0, 48):
        with pytest.raises(ValueError, match=f"column {at} has no column on both sides"):
            joins.border_ratio(clips[0], at)
    with pytest.raises(ValueError, match="give 3"):
        joins.border_ratio(clips[0][:, :, :2], 1)


def test_given_frames_lose_what_they_have_less_than_their_reconstruction():
    grey = np.full((3, 8, 8, 3), 100, np.uint8)
    assert joins.given_back(grey + 4, grey, grey + 4) == 0
    # Twice the error is 6 dB.
    assert joins.given_back(grey + 8, grey, grey + 4) == pytest.approx(-20 * np.log10(2))
    assert joins.given_back(grey + 4, grey, grey + 8) == pytest.approx(20 * np.log10(2))
    # Equal frames are of 100 dB.
    assert joins.given_back(grey, grey, grey + 51) == pytest.approx(100 - 20 * np.log10(5))


def test_frames_of_other_numbers_or_sizes_are_not_those_that_were_given():
    grey = np.full((3, 8, 8, 3), 100, np.uint8)
    for made, back in ((grey[:2], grey), (grey, grey[:, :4])):
        with pytest.raises(ValueError, match="equally many frames of one size"):
            joins.given_back(made, grey, back)
    with pytest.raises(ValueError, match="equally many frames of one size"):
        joins.given_back(*[grey[:0]] * 3)


def test_colour_drifts_by_what_it_is_changed():
    grey = np.full((32, 8, 8, 3), 100, np.uint8)
    assert joins.colour_drift(grey, 8) == 0
    drifting = grey + (np.arange(32) // 8 * 3).astype(np.uint8)[:, None, None, None]
    assert abs(joins.colour_drift(drifting, 8) - 3 * 3**0.5) < 1e-6
    with pytest.raises(ValueError, match="two hops of 20"):
        joins.colour_drift(grey, 20)


def test_diversity_is_that_of_pairs(clips):
    assert joins.diversity([clips[0]] * 3) == 0
    assert joins.diversity(clips[:3]) > 10
    with pytest.raises(ValueError, match="two clips"):
        joins.diversity(clips[:1])


def test_monotone_is_one_where_all_rises():
    assert joins.monotone([0.0, 1.0, 2.0, 5.0]) == 1 and joins.monotone([5.0, 2.0, 1.0, 0.0]) == -1
    assert joins.monotone([3.0] * 3) == 0 and 0 < joins.monotone([0.0, 2.0, 1.0, 3.0]) < 1


def test_a_fade_is_halfway_in_its_middle():
    black, white = np.zeros((9, 2, 2, 3), np.uint8), np.full((9, 2, 2, 3), 200, np.uint8)
    faded = joins.cross_fade(black, white, 3, 6)[:, 0, 0, 0]
    assert faded.tolist() == [0, 0, 0, 50, 100, 150, 200, 200, 200]


def test_a_join_at_the_end_is_refused(clips):
    with pytest.raises(ValueError, match="frame 17 has no frame on both sides"):
        joins.seam_ratio(clips[0], 17)


def test_clips_without_neighbours_to_compare_with_are_refused(clips):
    with pytest.raises(ValueError, match="give 3"):
        joins.seam_ratio(clips[0][:2], 1)
    for frames in (1, 2):
        with pytest.raises(ValueError, match="3 frames or more"):
            joins.loop_closure(clips[0][:frames])
