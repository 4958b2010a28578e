"""Classifier-free guidance."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sora_jax.diffusion.guidance import Guidance
from sora_jax.diffusion.prediction import from_clean
from sora_jax.diffusion.schedules import RectifiedFlow

FLOW = RectifiedFlow()


def example(t=0.5):
    drawn = np.random.default_rng(0).normal(size=(3, 2, 3, 4, 4, 5)).astype(np.float32)
    x, c, u = map(jnp.asarray, drawn)
    return _split(2 * c + 1, x, t), _split(u, x, t), x


@jax.jit
def _split(clean, x, t):
    return from_clean(clean, x, t, schedule=FLOW)


def apply(guidance, t):
    conditional, unconditional, x = example(t)
    return guide(guidance, conditional, unconditional, x, t)


def guide(guidance, conditional, unconditional, x, t, valid=None):
    found = _guide(guidance, conditional, unconditional, x, t, valid)
    return jax.tree.map(np.asarray, found)


@functools.partial(jax.jit, static_argnums=0)
def _guide(guidance, conditional, unconditional, x, t, valid):
    return guidance(conditional, unconditional, x, t, schedule=FLOW, valid=valid)


def same(found, expected):
    np.testing.assert_array_equal(found.clean, expected.clean)
    np.testing.assert_array_equal(found.noise, expected.noise)


def test_scale_one_is_the_conditional_estimate_to_the_bit_and_needs_no_other():
    same(apply(Guidance(scale=1.0, rescale=0.7), 0.5), example(0.5)[0])
    assert not Guidance().active and Guidance(scale=0.0).active and Guidance(scale=3.0).active


def test_scale_zero_is_the_unconditional_estimate_to_the_bit():
    same(apply(Guidance(scale=0.0), 0.5), example(0.5)[1])


def test_scale_extrapolates_from_unconditional_through_conditional():
    conditional, unconditional, _ = example()
    found = apply(Guidance(scale=3.0), 0.5)
    expected = 3 * np.asarray(conditional.clean) - 2 * np.asarray(unconditional.clean)
    np.testing.assert_allclose(found.clean, expected, atol=1e-5)


def test_what_is_given_has_a_contrast_and_a_scale_of_its_own():
    (conditional, unconditional, x), alone = (
        example(),
        _split(example()[2] * 0.5, example()[2], 0.5),
    )

    def found(scale, given):
        guidance = Guidance(scale=scale, given=given)
        assert guidance.estimates == 1 + (scale != 1) + (given != 1)
        made = guidance(
            conditional,
            unconditional if scale != 1 else None,
            x,
            jnp.asarray(0.5),
            schedule=FLOW,
            alone=alone if given != 1 else None,
        )
        return np.asarray(made.clean)

    c, u, a = (np.asarray(each.clean) for each in (conditional, unconditional, alone))
    np.testing.assert_allclose(found(3.0, 1.0), c + 2 * (c - u), atol=1e-5)
    np.testing.assert_allclose(found(1.0, 2.5), c + 1.5 * (c - a), atol=1e-5)
    np.testing.assert_allclose(found(3.0, 2.5), c + 2 * (c - u) + 1.5 * (c - a), atol=1e-5)
    np.testing.assert_allclose(found(1.0, 0.0), a, atol=1e-5)
    with pytest.raises(ValueError, match="given -1"):
        Guidance(given=-1.0)
    with pytest.raises(ValueError, match="scale nan"):
        Guidance(scale=float("nan"))


def test_equal_estimates_are_left_alone():
    conditional, _, x = example()
    same(guide(Guidance(scale=7.0), conditional, conditional, x, 0.5), conditional)


def test_outside_its_interval_guidance_is_the_conditional_estimate_to_the_bit():
    guidance = Guidance(scale=4.0, interval=(0.25, 0.75), rescale=0.5)
    for t in (0.2, 0.8):
        same(apply(guidance, t), example(t)[0])
    for t in (0.25, 0.5, 0.75):
        assert not np.any(apply(guidance, t).clean == np.asarray(example(t)[0].clean))


def test_the_interval_looks_at_each_place_of_the_noise_field():
    field = np.array([[0.9, 0.5, 0.0], [0.5, 0.9, 0.5]])[:, :, None, None]
    found, (conditional, _, _) = apply(Guidance(scale=4.0, interval=(0.4, 0.6)), field), example()
    alone = np.all(found.clean == conditional.clean, axis=(2, 3, 4))
    np.testing.assert_array_equal(alone, [[True, False, True], [False, True, False]])


def test_guided_parts_still_add_up_to_x():
    for guidance in (Guidance(scale=4.0), Guidance(scale=4.0, rescale=0.7)):
        found, x = apply(guidance, 0.3), example()[2]
        np.testing.assert_allclose(0.7 * found.clean + 0.3 * found.noise, x, atol=1e-5)


def test_full_rescaling_gives_back_the_spread_of_the_conditional_estimate():
    axes = (1, 2, 3, 4)
    wanted = np.std(np.asarray(example()[0].clean), axes)
    plain = np.std(apply(Guidance(scale=5.0), 0.5).clean, axes)
    full = np.std(apply(Guidance(scale=5.0, rescale=1.0), 0.5).clean, axes)
    half = np.std(apply(Guidance(scale=5.0, rescale=0.5), 0.5).clean, axes)
    assert np.all(plain > 1.5 * wanted)
    np.testing.assert_allclose(full, wanted, rtol=1e-5)
    np.testing.assert_allclose(half, (plain + wanted) / 2, rtol=1e-5)


def test_padding_never_changes_how_valid_places_are_rescaled():
    guidance = Guidance(scale=5.0, rescale=1.0)
    valid = np.zeros((2, 3, 4, 4), bool)
    valid[:, :2] = True
    conditional, unconditional, x = example()
    once = guide(guidance, conditional, unconditional, x, 0.5, valid)
    changed = jax.tree.map(lambda leaf: leaf.at[:, 2].set(99.0), unconditional)
    twice = guide(guidance, conditional, changed, x, 0.5, valid)
    np.testing.assert_array_equal(once.clean[:, :2], twice.clean[:, :2])
    nothing = guide(guidance, conditional, unconditional, x, 0.5, np.zeros_like(valid))
    assert np.all(np.isfinite(nothing.clean))


def test_wrong_numbers_are_named():
    with pytest.raises(ValueError, match=r"interval \(0.8, 0.2\)"):
        Guidance(interval=(0.8, 0.2))
    with pytest.raises(ValueError, match=r"rescale 2\.0"):
        Guidance(rescale=2.0)
