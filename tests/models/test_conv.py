"""Promises of the convolutions: the forms agree, time is causal, chunks equal the whole."""

from __future__ import annotations

import functools
import itertools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sora_jax.models import conv
from sora_jax.models.conv import (
    CausalConv,
    Form,
    Pointwise,
    SpatialDown,
    SpatialUp,
    TemporalDown,
    TemporalUp,
    blanked,
)

LAYERS = (CausalConv, SpatialDown, SpatialUp, TemporalDown, TemporalUp)


def clip(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def params_of(layer: nn.Module, x: Any) -> Any:
    """Random parameters, biases too: they start at 0, where a forgotten one would not be seen."""
    shapes = nn.meta.unbox(jax.eval_shape(layer.init, jax.random.key(0), x))
    return jax.tree.map(lambda leaf: 0.5 * clip(*leaf.shape, seed=leaf.size), shapes)


@functools.partial(jax.jit, static_argnums=0)
def run(layer: nn.Module, params: Any, x: Any, past: Any = None, extent: Any = None) -> Any:
    return layer.apply(params, x, past, extent)


def close(a: Any, b: Any, tolerance: float = 1e-5) -> None:
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, tolerance, tolerance), a, b)


@pytest.mark.parametrize("kind", [CausalConv, SpatialUp])
def test_both_forms_give_the_same_values_and_gradients(kind: type) -> None:
    x = clip(2, 5, 6, 4, 3)
    params = params_of(kind(3), x)

    def outcome(form: Form) -> Any:
        def energy(params: Any, x: Any) -> Any:
            y, past, _ = kind(3, form=form).apply(params, x)
            return jnp.sum(jnp.sin(y)), (y, past)

        return jax.jit(jax.grad(energy, (0, 1), has_aux=True))(params, x)

    close(outcome("native"), outcome("stacked"), 2e-5)


def test_the_default_form_is_that_of_the_backend() -> None:
    assert conv.platform_form() == ("stacked" if jax.default_backend() == "cpu" else "native")


@pytest.mark.parametrize(
    ("kind", "chunks"),
    [
        (CausalConv, (1, 1, 3)),
        (TemporalDown, (1, 2, 2)),
        (TemporalDown, (3, 2)),
        (TemporalUp, (1, 1, 3)),
    ],
)
def test_chunks_equal_the_whole(kind: type, chunks: tuple[int, ...]) -> None:
    x = clip(2, 5, 3, 2, 3)
    params = params_of(kind(3), x)
    whole, end, _ = run(kind(3), params, x)
    parts, past = [], None
    for start, count in zip(np.cumsum((0, *chunks)), chunks, strict=False):
        part, past, _ = run(kind(3), params, x[:, start : start + count], past)
        parts.append(part)
    close(jnp.concatenate(parts, axis=1), whole)
    close(past, end)


def test_causal_conv_is_a_sum_over_this_frame_and_the_two_before() -> None:
    x = clip(1, 4, 5, 5, 2)
    params = params_of(CausalConv(3), x)
    y, _, _ = run(CausalConv(3), params, x)
    kernel, bias = params["params"]["kernel"], params["params"]["bias"]
    padded = np.pad(x, ((0, 0), (2, 0), (1, 1), (1, 1), (0, 0)))
    taps = itertools.product(range(3), repeat=3)
    close(
        y,
        bias
        + sum(padded[:, t : t + 4, i : i + 5, j : j + 5] @ kernel[i, j, t] for t, i, j in taps),
    )


def test_temporal_down_passes_the_first_frame_and_strides_over_the_rest() -> None:
    x = clip(1, 5, 2, 2, 3)
    params = params_of(TemporalDown(3), x)
    y, _, _ = run(TemporalDown(3), params, x)
    kernel, bias = params["params"]["kernel"], params["params"]["bias"]
    assert y.shape[1] == 3
    close(y[:, 0], x[:, 0])
    for k in (1, 2):
        close(y[:, k], sum(x[:, 2 * k - 2 + t] @ kernel[t] for t in range(3)) + bias)


def test_temporal_up_passes_the_first_frame_and_hides_it_from_the_rest() -> None:
    x = clip(1, 4, 2, 2, 3)
    params = params_of(TemporalUp(3), x)
    y, _, _ = run(TemporalUp(3), params, x)
    kernel, bias = params["params"]["kernel"], params["params"]["bias"]
    assert y.shape[1] == 7
    close(y[:, 0], x[:, 0])
    for k in (1, 2, 3):
        pair = sum(x[:, k - 2 + t] @ kernel[t] for t in range(3) if k - 2 + t >= 1) + bias
        close(y[:, 2 * k - 1], pair[..., :3])
        close(y[:, 2 * k], pair[..., 3:])


def test_an_image_passes_both_temporal_layers_unchanged() -> None:
    x = clip(2, 1, 2, 2, 3)
    for kind in (TemporalDown, TemporalUp):
        close(run(kind(3), params_of(kind(3), x), x)[0], x)


@pytest.mark.parametrize(("size", "half"), [((1, 1), (1, 1)), ((5, 4), (3, 2)), ((7, 6), (4, 3))])
def test_spatial_down_rounds_up(size: tuple[int, int], half: tuple[int, int]) -> None:
    x = clip(1, 1, *size, 2)
    output, _ = jax.eval_shape(SpatialDown(3).init_with_output, jax.random.key(0), x)
    assert output[0].shape[2:4] == half


def test_extents_follow_the_sizes() -> None:
    extents = jnp.array([[0, 0, 0], [1, 1, 7], [3, 4, 8], [5, 5, 1]])
    close(conv.spatially_halved(extents), [[0, 0, 0], [1, 1, 4], [3, 2, 4], [5, 3, 1]])
    close(conv.spatially_doubled(extents), [[0, 0, 0], [1, 2, 14], [3, 8, 16], [5, 10, 2]])
    close(conv.temporally_halved(extents), [[0, 0, 0], [1, 1, 7], [2, 4, 8], [3, 5, 1]])
    close(conv.temporally_doubled(extents), [[0, 0, 0], [1, 1, 7], [5, 4, 8], [9, 5, 1]])


@pytest.mark.parametrize("kind", LAYERS)
def test_what_lies_beyond_the_extent_never_enters(kind: type) -> None:
    x, extent = clip(1, 3, 3, 4, 2), jnp.array([[3, 3, 4]])
    params = params_of(kind(2), x)
    alone, _, after = run(kind(2), params, x, None, extent)
    padded = jnp.pad(x, ((0, 0), (0, 2), (0, 3), (0, 2), (0, 0)), constant_values=jnp.nan)
    inside, _, after_padding = run(kind(2), params, padded, None, extent)
    close(after, after_padding)
    frames, height, width = alone.shape[1:4]
    assert after.tolist() == [[frames, height, width]]
    close(inside[:, :frames, :height, :width], alone)


def test_blanked_is_zero_beyond_each_rows_extent() -> None:
    x = jnp.ones((3, 2, 3, 4, 1))
    kept = blanked(x, jnp.array([[1, 2, 4], [0, 0, 0], [2, 3, 1]]))
    assert jnp.sum(kept, (1, 2, 3, 4)).tolist() == [8, 0, 6]
    assert kept[0, 0, 1, 3, 0] == 1
    assert kept[0, 0, 2, 0, 0] == 0


def test_parameters_are_float32_and_named_whatever_the_compute_type() -> None:
    x = clip(1, 3, 2, 2, 4)
    (y, _, _), variables = jax.eval_shape(
        CausalConv(8, "bfloat16").init_with_output, jax.random.key(0), x
    )
    boxed = variables["params"]
    assert boxed["kernel"].names == (None, None, None, "channels_in", "channels_out")
    assert boxed["bias"].names == ("channels_out",)
    assert {leaf.dtype for leaf in jax.tree.leaves(boxed)} == {jnp.dtype("float32")}
    assert y.dtype == jnp.bfloat16


def test_pointwise_is_a_matrix_product() -> None:
    x = clip(1, 2, 2, 2, 4)
    params = params_of(Pointwise(3), x)
    expected = x @ params["params"]["kernel"] + params["params"]["bias"]
    close(jax.jit(Pointwise(3).apply)(params, x), expected)
