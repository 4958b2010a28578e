"""Promises of the autoencoder: causal, streamable, blind to padding, of the published size."""

from __future__ import annotations

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sora_jax.arrays import Size
from sora_jax.models import block_vae, vae
from sora_jax.models.autoencoder import Autoencoder, Posterior
from sora_jax.models.block_vae import BlockVAE
from sora_jax.models.coders import Activation
from sora_jax.models.vae import VAE

SMALL = VAE(base=4, multipliers=(1, 2), blocks=0, latent_channels=3, temporal=(True,))
LIGHT = BlockVAE(width=6, hidden=4, blocks=1, latent_channels=3, block=Size(2, 2, 2), deblock=90.0)
both = pytest.mark.parametrize("model", [SMALL, LIGHT], ids=["vae", "block_vae"])
"""Two pixels a latent in each direction."""
FLAT = VAE(base=4, multipliers=(1,), blocks=0, latent_channels=3, temporal=())


def clip(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def params_of(model: Autoencoder) -> Any:
    """Random parameters, biases too: they start at 0, where a forgotten one would not be seen."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), clip(1, 1, 8, 8, 3))["params"]

    def fill(leaf: Any) -> np.ndarray:
        spread = 1.7 / np.sqrt(np.prod(leaf.shape[:-1])) if len(leaf.shape) > 1 else 0.3
        return spread * clip(*leaf.shape, seed=leaf.size) + (len(leaf.shape) == 1)

    return jax.tree.map(fill, nn.meta.unbox(shapes))


PARAMS: Any = functools.cache(params_of)


@functools.partial(jax.jit, static_argnums=(0, 1))
def applied(model: Autoencoder, method: str, params: Any, *inputs: Any) -> Any:
    return model.apply({"params": params}, *inputs, method=method)


def run(model: Autoencoder, method: str, *inputs: Any) -> Any:
    return applied(model, method, PARAMS(model), *inputs)


def close(a: Any, b: Any, tolerance: float = 1e-5) -> None:
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, tolerance, tolerance), a, b)


@both
@pytest.mark.parametrize("latents", [2, 3])
def test_encoding_in_parts_is_encoding_the_whole(model: Autoencoder, latents: int) -> None:
    # Six latents: one and five, which parts of two or three fill with what comes after the end.
    video = clip(3, 11, 6, 8, 3)
    extent = jnp.array([[11, 6, 8], [4, 5, 3], [0, 0, 0]])
    whole = run(model, "encode", video, extent).mean
    assert whole.shape[1] == 6
    parts = jax.jit(functools.partial(model.encode_in_parts, latents=latents))
    close(parts(PARAMS(model), video, extent), whole, 1e-4)
    image = parts(PARAMS(model), video[:, :1], jnp.minimum(extent, jnp.array([1, 6, 8])))
    close(image, run(model, "encode", video[:, :1], jnp.minimum(extent, 8).at[:, 0].min(1)).mean)


@pytest.mark.slow
def test_encoding_in_parts_takes_the_memory_of_a_part() -> None:
    video, extent = clip(1, 33, 64, 64, 3), jnp.array([[33, 64, 64]])
    model, taken = VAE(base=8, multipliers=(1, 2), blocks=1, temporal=(True,)), []
    for encode in (
        lambda params, video: model.apply({"params": params}, video, extent, method="encode").mean,  # type: ignore
        lambda params, video: model.encode_in_parts(params, video, extent, latents=2),
    ):
        planned = jax.jit(encode).lower(PARAMS(model), video).compile().memory_analysis()
        taken.append(planned.temp_size_in_bytes)
    assert taken[1] < taken[0] / 3


@both
def test_frames_by_themselves_hold_nothing_of_the_frames_before(model: Autoencoder) -> None:
    # Two pixel frames a latent: frame 0, then 1 and 2, 3 and 4, 5 and 6.
    one, other = clip(1, 7, 8, 8, 3), clip(1, 7, 8, 8, 3, seed=1)
    known = np.array([[False, True, False, True]])
    other[:, [1, 2, 5, 6]] = one[:, [1, 2, 5, 6]]

    def latents(video: Any) -> Any:
        lone = model.lone(jnp.asarray(video), jnp.asarray(known))
        return run(model, "encode", lone).mean[known]

    close(latents(one), latents(other), 0)
    assert np.abs(run(model, "encode", one).mean[known] - latents(one)).max() > 1e-3
    # What is known stays, and what is unknown before it stands still at its beginning.
    lone = np.asarray(model.lone(jnp.asarray(one), jnp.asarray(known)))
    np.testing.assert_array_equal(lone, one[:, [1, 1, 2, 5, 5, 5, 6]])


def test_a_beginning_by_itself_is_what_it_was() -> None:
    video = clip(1, 7, 8, 8, 3)
    known = np.array([[True, True, False, False]])
    lone = SMALL.lone(jnp.asarray(video), jnp.asarray(known))
    np.testing.assert_array_equal(lone, video)


@pytest.mark.parametrize(
    ("preset", "parameters"),
    [("tiny", 678_880), ("small", 2_528_544), ("base", 31_861_411), ("wan", 126_892_531)],
)
def test_presets_have_their_parameter_counts(preset: str, parameters: int) -> None:
    model: Autoencoder = (vae.PRESETS | block_vae.PRESETS)[preset]()
    variables = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 5, 16, 16, 3)))
    count = sum(leaf.size for leaf in jax.tree.leaves(variables))
    assert count - 2 * model.latent_channels == parameters  # less latent mean and deviation


def test_a_clip_of_full_size_becomes_the_latents_of_its_size() -> None:
    model, size = vae.PRESETS["wan"](), Size(81, 480, 832)
    video = jax.ShapeDtypeStruct((1, *size, 3), jnp.float32)
    outputs: Any = jax.eval_shape(model.init_with_output, jax.random.key(0), video)
    (reconstruction, posterior), _ = outputs
    assert model.latent_size(size) == Size(21, 60, 104) == Size(*posterior.mean.shape[1:4])
    assert reconstruction.shape == video.shape
    assert model.pixel_size(model.latent_size(size)) == size


def test_latent_sizes_and_extents_round_up() -> None:
    model = VAE()
    assert model.factor == BlockVAE().factor == Size(4, 8, 8)
    sizes = [(0, 0, 0), (1, 8, 8), (2, 9, 16), (5, 1, 17), (6, 24, 7)]
    latents = [[0, 0, 0], [1, 1, 1], [2, 2, 2], [2, 1, 3], [3, 3, 1]]
    assert [[*model.latent_size(Size(*size))] for size in sizes] == latents
    assert model.latent_extent(jnp.array(sizes)).tolist() == latents


VIDEO, LATENT = clip(1, 5, 4, 6, 3), clip(1, 3, 2, 3, 3, seed=1)


@functools.cache
def whole(model: Autoencoder) -> Any:
    return run(model, "encode", VIDEO), run(model, "decode", LATENT)


def in_chunks(model: Autoencoder, method: str, clip: Any, chunks: tuple[int, ...]) -> Any:
    parts, past = [], None
    for start, frames in zip(np.cumsum((0, *chunks)), chunks, strict=False):
        part, past = run(model, method, clip[:, start : start + frames], past)
        parts.append(part)
    return jax.tree.map(lambda *xs: jnp.concatenate(xs, axis=1), *parts)


@both
def test_an_image_equals_the_first_frame(model: Autoencoder) -> None:
    encoded, decoded = whole(model)
    image = in_chunks(model, "encode_chunk", VIDEO[:, :1], (1,))
    close(image, jax.tree.map(lambda x: x[:, :1], encoded))
    close(in_chunks(model, "decode_chunk", LATENT[:, :1], (1,)), decoded[:, :1])


@both
@pytest.mark.parametrize("chunks", [(1, 2, 2), (3, 2)])
def test_encoding_in_chunks_equals_the_whole(model: Autoencoder, chunks: tuple[int, ...]) -> None:
    close(in_chunks(model, "encode_chunk", VIDEO, chunks), whole(model)[0])


@both
@pytest.mark.parametrize("chunks", [(1, 1, 1), (2, 1)])
def test_decoding_in_chunks_equals_the_whole(model: Autoencoder, chunks: tuple[int, ...]) -> None:
    close(in_chunks(model, "decode_chunk", LATENT, chunks), whole(model)[1])


@both
def test_causal_vae_never_sees_the_future(model: Autoencoder) -> None:
    """By the Jacobian of random sums over one latent frame, and over one frame of pixels."""
    weights = clip(2, 3, 3)

    def latent_frame(params: Any, video: Any) -> Any:
        posterior: Any = model.apply(params, video, method="encode")
        return jnp.sum(weights * posterior.mean[0, 1])

    def pixel_frame(params: Any, latent: Any) -> Any:
        video: Any = model.apply(params, latent, method="decode")
        return jnp.sum(weights * video[0, 2, ::2, ::2])

    params = {"params": PARAMS(model)}
    encoded = jax.jit(jax.grad(latent_frame, 1))(params, VIDEO)
    decoded = jax.jit(jax.grad(pixel_frame, 1))(params, LATENT)
    seen = [np.abs(np.asarray(x)).sum((0, 2, 3, 4)) > 0 for x in (encoded, decoded)]
    assert seen[0].tolist() == [True, True, True, False, False]
    assert seen[1].tolist() == [True, True, False]


def test_a_chunk_that_fills_no_whole_latents_is_refused() -> None:
    with pytest.raises(ValueError, match=r"4x8x8 pixels .* 1 \+ 4k frames"):
        video = jax.ShapeDtypeStruct((1, 4, 8, 8, 3), jnp.float32)
        jax.eval_shape(
            functools.partial(VAE(base=4).init, method="encode_chunk"), jax.random.key(0), video
        )


@pytest.fixture(scope="module", params=[SMALL, LIGHT], ids=["vae", "block_vae"])
def padded_and_alone(request: Any) -> tuple[Any, Any]:
    """Latents, pixels and gradients of a clip in a larger box among others, and of it alone."""
    model, size, noise = request.param, Size(3, 4, 6), clip(2, 2, 3, 3)

    @jax.jit
    def outcome(params: Any, video: Any, extent: Any) -> Any:
        def loss(params: Any, video: Any) -> Any:
            variables = {"params": params}
            posterior: Any = model.apply(variables, video, extent, method="encode")
            drawn = jnp.zeros_like(posterior.mean).at[0, :2, :2, :3].set(noise)
            latent = posterior.mean + jnp.exp(0.5 * posterior.log_variance) * drawn
            y: Any = model.apply(
                variables, latent, Size(*video.shape[1:4]), extent, method="reconstruct"
            )
            error = y[0, :3, :4, :6] - clip(*size, 3, seed=5)
            return jnp.mean(error**2), (posterior, y)

        return jax.grad(loss, (0, 1), has_aux=True)(params, video)

    video = clip(1, *size, 3)
    alone = outcome(PARAMS(model), video, jnp.array([size]))
    box = np.full((3, 5, 8, 10, 3), np.nan, np.float32)
    box[0, :3, :4, :6] = video[0]
    box[1] = 1e20
    extents = jnp.array([size, (5, 8, 10), (0, 0, 0)])
    return outcome(PARAMS(model), box, extents), alone


def test_padding_never_changes_the_valid_part(padded_and_alone: tuple[Any, Any]) -> None:
    (_, (posterior, video)), (_, (posterior_alone, video_alone)) = padded_and_alone
    close(jax.tree.map(lambda x: x[:1, :2, :2, :3], posterior), posterior_alone)
    close(video[:1, :3, :4, :6], video_alone)


def test_padding_never_changes_the_gradients(padded_and_alone: tuple[Any, Any]) -> None:
    ((params, video), _), ((params_alone, video_alone), _) = padded_and_alone
    close(params, params_alone)
    close(video[:1, :3, :4, :6], video_alone)
    outside = video.at[0, :3, :4, :6].set(0)
    assert (outside == 0).all()


def test_empty_rows_are_zero_and_give_no_nan(padded_and_alone: tuple[Any, Any]) -> None:
    (gradients, (posterior, video)), _ = padded_and_alone
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))
    assert all((x[2] == 0).all() for x in (*posterior, video))


@both
def test_a_clip_between_sizes_is_continued_by_its_edges(model: Autoencoder) -> None:
    cut = VIDEO[:, :4, :3, :5]
    grown = ((0, 0), (0, 1), (0, 1), (0, 1), (0, 0))
    whole = run(model, "encode", np.pad(cut, grown, mode="edge"))
    close(run(model, "encode", cut), whole)
    garbage = np.pad(cut, grown, constant_values=9)
    close(run(model, "encode", garbage, jnp.array([[4, 3, 5]])), whole)


@both
def test_the_reconstruction_has_the_size_of_the_clip(model: Autoencoder) -> None:
    shapes = jax.eval_shape(model.init_with_output, jax.random.key(0), VIDEO[:, :4, :3, :5])
    assert shapes[0][0].shape == (1, 4, 3, 5, 3)


def test_rematerialised_blocks_have_the_same_parameters() -> None:
    model = FLAT.clone(remat="blocks")

    def energy(params: Any) -> Any:
        posterior: Any = model.apply({"params": params}, jnp.asarray(VIDEO), method="encode")
        return jnp.sum(posterior.mean**2)

    jaxpr = jax.make_jaxpr(jax.grad(energy))(PARAMS(FLAT))
    assert str(jaxpr).count("remat2[") == 2  # the blocks of FLAT's encoder


def test_bfloat16_computes_near_float32_and_returns_float32() -> None:
    exact = run(FLAT, "encode", VIDEO).mean
    rounded = applied(FLAT.clone(dtype="bfloat16"), "encode", PARAMS(FLAT), VIDEO).mean
    assert rounded.dtype == jnp.float32
    assert jnp.sqrt(jnp.mean((rounded - exact) ** 2)) < 0.05 * jnp.std(exact)


def test_the_activations_gradient_is_that_of_its_formula() -> None:
    def formula(x: Any, gain: Any) -> Any:
        return jax.nn.silu(x * jax.lax.rsqrt(jnp.mean(x**2, -1, keepdims=True) + 1e-12) * gain)

    def energy(function: Any) -> Any:
        return lambda x, gain: jnp.sum(jnp.sin(function(x, gain)))

    def activated(x: Any, gain: Any) -> Any:
        return Activation().apply({"params": {"scale": gain}}, x, None, None)[0]

    inputs = clip(1, 2, 2, 2, 4), clip(4)
    gradients = [
        jax.jit(jax.value_and_grad(energy(f), (0, 1)))(*inputs) for f in (activated, formula)
    ]
    close(*gradients)
    # Features that are 0 in all channels have a finite gradient.
    zeros = jax.jit(jax.grad(energy(activated)))(np.zeros_like(inputs[0]), inputs[1])
    assert jnp.isfinite(zeros).all()


def test_normalise_is_inverted_and_learns_nothing() -> None:
    params = {**PARAMS(FLAT), "latent_mean": jnp.arange(3.0), "latent_std": jnp.array([1.0, 2, 4])}
    normalised = applied(FLAT, "normalise", params, LATENT)
    close(normalised, (LATENT - np.arange(3)) / [1, 2, 4])
    close(applied(FLAT, "denormalise", params, normalised), LATENT)

    def total(params: Any) -> Any:
        latent: Any = FLAT.apply({"params": params}, jnp.asarray(LATENT), method="normalise")
        return jnp.sum(latent)

    assert all((leaf == 0).all() for leaf in jax.tree.leaves(jax.jit(jax.grad(total))(params)))


def test_the_divergence_is_that_of_gaussians() -> None:
    mean, log_variance = (jnp.full((1, 1, 1, 1, 3), value) for value in (2.0, 1.0))
    # KL(N(2, e) || N(0, 1)) = (4 + e - 1 - 1) / 2
    close(Posterior(mean, log_variance).divergence(), np.full(mean.shape, (2 + np.e) / 2))
    zeros = jnp.zeros((1, 1, 1, 1, 3))
    assert (Posterior(zeros, zeros).divergence() == 0).all()


def test_a_rows_sample_depends_on_no_other_row() -> None:
    def draw(rows: int) -> Any:
        zeros = jnp.zeros((rows, 2, 2, 2, 3))
        return Posterior(zeros, zeros).sample(jax.random.key(3))

    many, one = jax.jit(draw, static_argnums=0)(3), jax.jit(draw, static_argnums=0)(1)
    close(many[:1], one)
    assert not np.allclose(many[0], many[1])


def test_flags_and_levels_must_match() -> None:
    with pytest.raises(ValueError, match="temporal has 1 flags and multipliers 3 levels"):
        VAE(multipliers=(1, 2, 4), temporal=(True,))


def test_a_block_is_as_high_as_wide() -> None:
    with pytest.raises(ValueError, match="4x8x16; a latent place must be as high as wide"):
        BlockVAE(block=Size(4, 8, 16))


def test_a_block_vae_begins_as_a_code_of_its_own() -> None:
    model = LIGHT.clone(deblock=0.0, latent_channels=24)
    video = jnp.asarray(VIDEO)
    variables = nn.meta.unbox(jax.jit(model.init)(jax.random.key(0), video))
    # As many numbers as pixels: encoder and decoder being silent, the clip comes back.
    copy, posterior = jax.jit(model.apply)(variables, video)
    close(copy, video)
    assert np.all(np.asarray(posterior.log_variance) < 0)
