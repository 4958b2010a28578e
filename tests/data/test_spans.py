"""Promises of frames given by themselves: never all of them, of every kind."""

from __future__ import annotations

import numpy as np

from sora_jax.data.spans import Spans


def test_something_is_given_and_something_is_asked_for() -> None:
    rng = np.random.default_rng(0)
    for frames in (2, 3, 5, 9):
        drawn = [Spans().draw(rng, frames) for _ in range(400)]
        assert all(given.shape == (frames,) and given.any() and not given.all() for given in drawn)
        # Everywhere something is given at some time, the first and the last frame too.
        assert np.any(drawn, axis=0).all()
        if frames > 3:
            assert len({tuple(given) for given in drawn}) > 2 * frames


def test_an_image_has_nothing_to_be_given() -> None:
    assert not Spans().draw(np.random.default_rng(0), 1).any()
