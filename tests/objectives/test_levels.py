"""Promises of the mix of noise levels: its shares, and that what is asked for is never given."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sora_jax.diffusion.times import Uniform, spread_uniform
from sora_jax.objectives.levels import Levels, NoiseField

ROWS, FRAMES = 4000, 6


@functools.partial(jax.jit, static_argnums=(0, 2))
def draw(field: NoiseField, valid: jax.Array, spanned: tuple[bool, ...] | None = None) -> Levels:
    rows = jnp.arange(valid.shape[0])
    extent = jnp.stack([valid, valid, valid], 1)
    return field.draw(
        jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(3), rows),
        spread_uniform(jax.random.key(4), rows),
        times=Uniform(),
        tokens=4 * valid,
        extent=extent,
        frames=FRAMES,
        spanned=None if spanned is None else jnp.tile(jnp.array(spanned), (len(rows), 1)),
    )


def flat(levels: Levels) -> tuple[np.ndarray, np.ndarray]:
    assert levels.t.shape == levels.known.shape == (len(levels.t), FRAMES, 1, 1)
    return np.asarray(levels.t)[:, :, 0, 0], np.asarray(levels.known)[:, :, 0, 0]


WHOLE = jnp.full(ROWS, FRAMES)
SUFFIX = (False, False, False, False, True, True)


def test_rows_come_in_the_shares_of_the_mix() -> None:
    t, known = flat(draw(NoiseField(), WHOLE))
    given = known.any(1)
    free = ~given & (np.ptp(t, axis=1) > 0)
    # A tenth of the rows that would be given frames lose them.
    assert given.mean() == pytest.approx(0.36, abs=0.03)
    assert free.mean() == pytest.approx(0.1, abs=0.02)
    rising = (np.diff(t[free], axis=1) >= 0).all(1)
    assert rising.mean() == pytest.approx(0.5, abs=0.07)
    noisy = np.where(known, t, 0).max(1)[given] > 0
    assert noisy.mean() == pytest.approx(0.2, abs=0.04)
    assert 0 < np.where(known, t, 0).max() < 0.5


def test_given_frames_are_noised_as_the_report_says() -> None:
    """ln t ~ N(-3.25, 0.5), and no more than the frames that are asked for."""
    t, known = flat(draw(NoiseField(given=1.0, free=0.0, noised=1.0, dropped=0.0), WHOLE))
    noised, asked = (np.where(where, t, 0).max(1) for where in (known, ~known))
    # The main time is drawn by itself; only where it is small does it bound the other.
    levels = np.log(noised[asked > 0.5])
    assert levels.mean() == pytest.approx(-3.25, abs=0.05)
    assert levels.std() == pytest.approx(0.5, abs=0.03)
    assert (noised <= asked).all()


def test_half_of_the_beginnings_are_the_first_frame_alone() -> None:
    _, known = flat(draw(NoiseField(given=1.0, free=0.0, dropped=0.0), WHOLE, SUFFIX))
    counts = known[known[:, 0]].sum(1)
    # Half of them by intent, and of the others, which have one to three, a third.
    assert (counts == 1).mean() == pytest.approx(1 / 2 + 1 / 6, abs=0.04)


def test_what_is_given_is_a_beginning_and_never_everything() -> None:
    for valid in (2, 3, 6):
        _, known = flat(draw(NoiseField(), jnp.full(ROWS, valid)))
        counts = known.sum(1)
        assert (known == (np.arange(FRAMES) < counts[:, None])).all()
        assert counts.max() == (1 if valid == 2 else valid // 2)


def test_half_of_the_given_rows_take_what_the_spans_hold() -> None:
    levels = draw(NoiseField(), WHOLE, SUFFIX)
    _, known = flat(levels)
    given, spans = known.any(1), np.asarray(levels.from_spans)
    assert spans.sum() / given.sum() == pytest.approx(0.5, abs=0.05)
    assert (known[spans] == np.array(SUFFIX)).all()
    assert (known[given & ~spans][:, 0]).all()


def test_frames_that_are_given_are_nearly_clean_and_the_others_share_a_time() -> None:
    t, known = flat(draw(NoiseField(free=0.0), WHOLE, SUFFIX))
    asked = np.where(known, np.nan, t)
    assert (np.nanmax(asked, axis=1) == np.nanmin(asked, axis=1)).all()
    assert (np.where(known, t, 0) <= np.nanmax(asked, axis=1)[:, None]).all()


def test_an_image_and_an_empty_row_are_given_nothing() -> None:
    for valid in (0, 1):
        levels = draw(NoiseField(given=1.0, free=0.0), jnp.full(100, valid), SUFFIX)
        assert not flat(levels)[1].any() and not np.asarray(levels.from_spans).any()


def test_a_row_depends_on_no_other() -> None:
    mixed = jnp.where(jnp.arange(ROWS) % 2, 3, FRAMES)
    t, known = flat(draw(NoiseField(), mixed))
    t_whole, known_whole = flat(draw(NoiseField(), WHOLE))
    assert (t[::2] == t_whole[::2]).all() and (known[::2] == known_whole[::2]).all()


def test_impossible_shares_are_refused() -> None:
    with pytest.raises(ValueError, match="at most 1"):
        NoiseField(given=0.7, free=0.4)
