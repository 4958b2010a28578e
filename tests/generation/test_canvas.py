"""What is given comes back, what is asked for is made, with every sampler."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sora_jax.diffusion.guidance import Guidance
from sora_jax.diffusion.multistep import DPMSolverPP, UniPC
from sora_jax.diffusion.samplers import DDIM, Ancestral, Euler, Heun
from sora_jax.generation.canvas import Canvas, ring
from sora_jax.generation.pipeline import refined_noise
from sora_jax.generation.settings import Sampling
from tests.generation.untrained import FAST, GRID, untrained

SAMPLERS = (Euler, Heun, DDIM, Ancestral, DPMSolverPP, UniPC)


def latents(frames: int, *, rows: int = 1, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(rows, frames, *GRID[1:], 8)).astype(np.float32)


def keys(rows: int = 1):
    return jax.random.split(jax.random.key(0), rows)


def blank(rows: int = 1) -> Canvas:
    return Canvas.blank(GRID, 8, batch=rows)


@pytest.mark.parametrize("sampler", [*(kind(steps=3) for kind in SAMPLERS), DDIM(steps=3, eta=1.0)])
def test_what_is_given_comes_back_to_the_bit_and_the_rest_is_made(sampler):
    given = latents(2)
    how = Sampling.of(sampler=sampler, guidance=Guidance(scale=2.0, given=1.5), given_noise=0.05)
    made = np.asarray(untrained().sample(blank().put(given, at=1), [""], how, keys=keys()))
    assert np.array_equal(made[:, 1:], given)
    assert np.isfinite(made).all() and np.abs(made[:, 0]).max() > 0


def test_each_row_has_what_is_given_to_it_alone():
    given = latents(1, rows=3)
    how = Sampling.of(**FAST)
    canvas = blank(3).put(given, at=0)
    made = np.asarray(untrained().sample(canvas, ["a", "b", "c"], how, keys=keys(3)))
    assert np.array_equal(made[:, :1], given)
    alone = untrained().sample(blank().put(given[2:], at=0), ["c"], how, keys=keys(3)[2:])
    np.testing.assert_allclose(made[2:], np.asarray(alone), atol=1e-5)


def test_start_level_one_forgets_the_reference_and_zero_keeps_all():
    how = Sampling.of(**FAST)
    plain = untrained().sample(blank(), [""], how, keys=keys())
    forgotten = blank().put(latents(3), at=0, level=1.0)
    np.testing.assert_array_equal(untrained().sample(forgotten, [""], how, keys=keys()), plain)
    whole = blank().put(latents(3), at=0)
    np.testing.assert_array_equal(untrained().sample(whole, [""], how, keys=keys()), latents(3))


def test_a_region_of_a_frame_is_made_anew_and_the_rest_of_it_kept():
    level = np.zeros(GRID)
    level[1, :, 2] = 1
    canvas = blank().put(latents(3), at=0, level=level)
    made = np.asarray(untrained().sample(canvas, [""], Sampling.of(**FAST), keys=keys()))
    changed = (made != latents(3)).any(-1)[0]
    assert np.array_equal(changed, level > 0)


def test_a_lower_strength_stays_nearer():
    far = []
    for strength in (0.2, 0.5, 0.8):
        canvas = blank().put(latents(3), at=0, level=strength)
        made = untrained().sample(canvas, [""], Sampling.of(steps=10, guidance=1.0), keys=keys())
        far.append(float(np.abs(np.asarray(made) - latents(3)).mean()))
    assert far[0] < far[1] < far[2]


def test_what_is_given_weighs_by_its_own_scale():
    def made(given: float):
        how = Sampling.of(steps=2, guidance=Guidance(given=given))
        canvas = blank().put(latents(1), at=0)
        return np.asarray(untrained().sample(canvas, [""], how, keys=keys()))

    one, two = made(1.0), made(2.0)
    assert np.array_equal(one[:, 0], two[:, 0]) and not np.allclose(one[:, 1:], two[:, 1:])
    # At 0 the model is as if it knew nothing of the frame.
    blind = Sampling.of(steps=2, guidance=1.0)
    alone = np.asarray(untrained().sample(blank(), [""], blind, keys=keys()))
    assert np.abs(made(0.0)[:, 1:] - alone[:, 1:]).mean() < np.abs(one - alone)[:, 1:].mean()


def test_latents_beyond_a_canvas_are_refused():
    with pytest.raises(ValueError, match="2 to 4 do not lie on a canvas of 3"):
        blank().put(latents(2), at=2)
    with pytest.raises(ValueError, match="give a number, or frames, height and width"):
        blank().put(latents(2), at=0, level=np.ones(2))
    with pytest.raises(ValueError, match="given_noise=2"):
        Sampling.of(given_noise=2.0)
    with pytest.raises(ValueError, match="steps=20 beside a sampler"):
        Sampling.of(steps=20, sampler=Euler(steps=10))


def test_a_ring_is_shown_open_at_each_place_and_put_together_again():
    shown = []

    def inner(x, t):
        shown.append((np.asarray(x), np.asarray(t)))
        return {"clean": x}

    x, noise = latents(3), latents(1, seed=1)
    for offset in range(3):
        parts = ring(inner, jnp.asarray(noise), offset=offset, context=2)(jnp.asarray(x), 0.5)
        assert np.array_equal(parts["clean"], x)
        seen, times = shown[-1]
        assert np.array_equal(seen[:, :1], noise) and times[0, 0, 0, 0] == 1
        assert np.array_equal(seen[:, 1:3], seen[:, 4:6])  # the last two, repeated in front
        assert np.array_equal(seen[:, 3], x[:, offset])
        assert np.all(times[:, 1:] == 0.5)


def test_refined_noise_is_white_and_has_the_low_frequencies_of_the_coarse_one():
    rng = np.random.default_rng(0)
    coarse = rng.normal(size=(1, 2, 8, 12, 16)).astype(np.float32)
    fine = refined_noise(coarse, rng.normal(size=(1, 2, 16, 24, 16)).astype(np.float32))
    blocks = fine.reshape(1, 2, 8, 2, 12, 2, 16)
    np.testing.assert_allclose(blocks.mean((3, 5)) * 2, coarse, atol=1e-5)
    assert abs(fine.std() - 1) < 0.02
    neighbours = (fine[:, :, :, 1:] * fine[:, :, :, :-1]).mean()
    assert abs(neighbours) < 0.02
