"""The diffusion objective, mostly with a stand-in model that works on each place by itself."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sora_jax.arrays import Batch, Size, Text
from sora_jax.config import from_json, to_json
from sora_jax.diffusion.guidance import Guidance
from sora_jax.diffusion.prediction import EDMPreconditioned, Noise, V
from sora_jax.diffusion.samplers import Euler
from sora_jax.diffusion.schedules import EDM, CosineDDPM, RectifiedFlow, ZeroTerminalSNR
from sora_jax.diffusion.times import LogNormalSigma, Shifted, Uniform
from sora_jax.models.dit import DiT, Prompt
from sora_jax.models.text import ByteEncoder, LabelEncoder
from sora_jax.models.vae import VAE
from sora_jax.objectives.denoising import Denoising
from sora_jax.objectives.levels import Levels, UniformLevels

CHANNELS = 4


class Local(DiT):
    """A linear map of each place's latent, time and flag, and of the mean of the text."""

    def setup(self):
        self.map = nn.Dense(self.latent_channels)

    def read_text(self, text_features, text_length):
        valid = jnp.arange(text_features.shape[1]) < text_length[:, None]
        mean = jnp.sum(text_features * valid[..., None], 1) / text_length[:, None]
        keys = mean[None, :, None, None]
        return Prompt(keys=keys, values=keys, valid=valid)

    def denoise(self, latent, sigma, prompt, *, extent=None, known=None):
        known = jnp.zeros_like(sigma) if known is None else known.astype(float)
        text = prompt.keys.reshape(latent.shape[0], 1, 1, 1, -1)
        parts = [latent, sigma[..., None], known[..., None], text]
        shape = latent.shape[:-1]
        return self.map(
            jnp.concatenate([jnp.broadcast_to(p, (*shape, p.shape[-1])) for p in parts], -1)
        )


TINY = {"width": 16, "depth": 1, "heads": 2, "mlp": 16, "latent_channels": CHANNELS}
LOCAL = Local(**TINY, text_width=3)
LABELS = LabelEncoder(classes=5, width=3)
DENOISING = Denoising(model=LOCAL, text=LABELS, times=Uniform(), factor=Size(4, 2, 2))


def batch_of(rows=4, seed=0, size=(3, 4, 6)):
    random = np.random.default_rng(seed)
    extents = [[9, 8, 12], [5, 7, 12], [1, 8, 3], [4, 2, 6]]
    return Batch(
        video=None,
        latent=jnp.asarray(random.normal(size=(rows, *size, CHANNELS)), float),
        extent=jnp.asarray([extents[i % 4] for i in range(rows)]),
        text=Text(tokens=jnp.asarray(random.integers(0, 5, (rows, 1))), length=jnp.ones(rows, int)),
        weight=jnp.ones(rows),
    )


def parameters(objective=DENOISING, batch=None):
    """Parameters with no zeros in them, made without compiling anything."""
    shapes = jax.eval_shape(objective.init, jax.random.key(0), batch or batch_of())
    random = np.random.default_rng(1)
    return jax.tree.map(
        lambda leaf: jnp.asarray(random.normal(size=leaf.shape) * 0.3, float), nn.unbox(shapes)
    )


KEY = jax.random.key(7)


def loss_of(batch, objective=DENOISING, params=None):
    """The loss, the metrics and the gradient."""
    params = parameters(objective, batch) if params is None else params
    (loss, metrics), gradient = _loss(objective, params, batch)
    return float(loss), metrics, gradient


@functools.partial(jax.jit, static_argnums=0)
def _loss(objective, params, batch):
    return jax.value_and_grad(objective.loss, has_aux=True)(params, KEY, batch, 0)


def only(batch, row):
    return dataclasses.replace(batch, weight=jnp.zeros(len(batch.weight)).at[row].set(1))


def test_the_loss_looks_at_valid_places_only():
    batch = batch_of()
    spoiled = np.array(batch.latent)
    # Extents are (3, 4, 6), (2, 4, 6), (1, 4, 2) and (2, 1, 3) latents.
    spoiled[1, 2:] = spoiled[2, 1:] = spoiled[2, :, :, 2:] = spoiled[3, :, 1:] = 1e6
    found = loss_of(dataclasses.replace(batch, latent=jnp.asarray(spoiled)))
    np.testing.assert_array_equal(found[0], loss_of(batch)[0])
    spoiled[3, 1, 0, 2] += 1
    other = loss_of(dataclasses.replace(batch, latent=jnp.asarray(spoiled)))
    assert other[0] != found[0]


def test_every_row_counts_the_same_whatever_its_size_and_by_its_weight():
    batch = batch_of()
    alone = np.array([loss_of(only(batch, row))[0] for row in range(4)])
    assert len(set(alone)) == 4
    np.testing.assert_allclose(loss_of(batch)[0], alone.mean(), rtol=1e-6)
    weighted = dataclasses.replace(batch, weight=jnp.array([1.0, 0.0, 0.5, 0.0]))
    np.testing.assert_allclose(loss_of(weighted)[0], (alone[0] + 0.5 * alone[2]) / 1.5, rtol=1e-6)


def test_neither_neighbours_nor_empty_rows_nor_a_larger_batch_change_a_row():
    batch, longer = batch_of(), batch_of(rows=6, seed=3)
    # The second row of `batch` among other neighbours, the last two of them empty.
    mixed = jax.tree.map(lambda new, old: new.at[1].set(old[1]), longer, batch)
    mixed = dataclasses.replace(only(mixed, 1), extent=mixed.extent.at[4:].set(0))
    np.testing.assert_allclose(loss_of(mixed)[0], loss_of(only(batch, 1))[0], rtol=1e-6)


def test_a_batch_of_empty_rows_has_loss_zero_and_no_gradient():
    batch = batch_of()
    empty = dataclasses.replace(
        batch, extent=jnp.zeros_like(batch.extent), weight=jnp.zeros_like(batch.weight)
    )
    for leaf in jax.tree.leaves(loss_of(empty)):
        np.testing.assert_array_equal(leaf, 0)
    # A row that claims to count but has no places does not count either.
    lying = dataclasses.replace(batch, extent=batch.extent.at[0].set(0))
    rest = dataclasses.replace(batch, weight=batch.weight.at[0].set(0))
    np.testing.assert_allclose(loss_of(lying)[0], loss_of(rest)[0], rtol=1e-6)


def test_the_bands_of_diffusion_time_add_up_to_the_whole():
    loss, metrics, _ = loss_of(batch_of(rows=6))
    sums = [float(v) for name, v in metrics.items() if name.endswith("/sum")]
    counts = [float(v) for name, v in metrics.items() if name.endswith("/count")]
    assert "loss_sigma_0.0_0.25/sum" in metrics and "loss_sigma_0.75_1.0/count" in metrics
    assert len(sums) == len(counts) == 4
    np.testing.assert_allclose(sum(counts), 6, rtol=1e-5)
    np.testing.assert_allclose(sum(sums) / 6, loss, rtol=1e-5)
    # Times are spread evenly over the batch: one or two rows in each quarter.
    assert set(np.round(counts, 4)) == {1, 2}
    assert loss == float(metrics["loss"])


@dataclasses.dataclass(frozen=True, kw_only=True)
class FirstKnown(UniformLevels):
    """The first latent frame is given; the other frames have times of their own."""

    def draw(self, keys, u, *, times, tokens, extent, frames, spanned=None):
        t = jnp.stack([jnp.zeros_like(u), 0.2 * u, 0.8 + 0.2 * u], 1)[:, :, None, None]
        return Levels(
            t=t,
            known=jnp.broadcast_to(jnp.array([True, False, False])[:, None, None], t.shape),
            from_spans=jnp.full(u.shape, spanned is not None),
        )


EDM_DENOISING = Denoising(
    model=LOCAL,
    text=LABELS,
    schedule=EDM(sigma_data=0.5),
    prediction=EDMPreconditioned(),
    times=LogNormalSigma(schedule=EDM(sigma_data=0.5)),
    levels=FirstKnown(),
    caption_dropout=1.0,
    factor=Size(4, 2, 2),
)


def test_what_is_given_by_itself_takes_the_place_of_the_latent_that_saw_what_was_before():
    batch = batch_of()
    spanned = jnp.zeros(batch.latent.shape[:2], bool).at[:, 0].set(True)
    other = batch_of(seed=5).latent
    given = dataclasses.replace(batch, spanned=spanned, spans=other)
    swapped = dataclasses.replace(batch, latent=batch.latent.at[:, 0].set(other[:, 0]))
    assert loss_of(given, EDM_DENOISING)[0] == loss_of(swapped, EDM_DENOISING)[0]
    # Its other frames are never looked at.
    poisoned = dataclasses.replace(given, spans=other.at[:, 1:].set(1e3))
    assert loss_of(poisoned, EDM_DENOISING)[0] == loss_of(given, EDM_DENOISING)[0]


def test_known_places_are_not_judged():
    batch = batch_of()
    loss, metrics, _ = loss_of(batch, EDM_DENOISING)
    changed = dataclasses.replace(batch, latent=batch.latent.at[:, 0].add(5.0))
    assert loss_of(changed, EDM_DENOISING)[0] == loss
    # Row 2 has no frame but the known one and does not count; the others count in parts.
    counts = {name: float(v) for name, v in metrics.items() if name.endswith("/count")}
    np.testing.assert_allclose(counts["loss_sigma_0.0_0.25/count"], 0.5 + 1 + 1, rtol=1e-6)
    np.testing.assert_allclose(counts["loss_sigma_0.75_1.0/count"], 0.5, rtol=1e-6)


def test_dropped_captions_say_nothing():
    batch = batch_of()
    other = Text(tokens=(batch.text.tokens + 1) % 5, length=batch.text.length)
    changed = dataclasses.replace(batch, text=other)
    assert loss_of(changed, EDM_DENOISING)[0] == loss_of(batch, EDM_DENOISING)[0]
    assert loss_of(changed)[0] != loss_of(batch)[0]


def test_edm_shows_the_model_scaled_data_and_asks_for_unit_variance():
    batch = batch_of()
    batch = dataclasses.replace(batch, latent=0.5 * batch.latent)
    params = jax.tree.map(jnp.zeros_like, parameters(EDM_DENOISING, batch))
    np.testing.assert_allclose(loss_of(batch, EDM_DENOISING, params)[0], 1, atol=0.25)
    # One that says what it sees is off by ((s - d)^2 + (s + d)^2) / (s^2 + d^2) = 2 at every s.
    kernel = params["model"]["map"]["kernel"]
    params["model"]["map"]["kernel"] = kernel.at[:CHANNELS].set(jnp.eye(CHANNELS))
    np.testing.assert_allclose(loss_of(batch, EDM_DENOISING, params)[0], 2, atol=0.5)


def test_one_caption_in_ten_is_dropped_each_by_its_own_key():
    text = Text(tokens=jnp.zeros((4000, 1), int), length=jnp.ones(4000, int))
    drop = jax.jit(DENOISING.drop_captions)
    keys = jax.random.split(jax.random.key(1), 4000)
    dropped = np.asarray(drop(text, keys).tokens[:, 0]) == LABELS.classes
    assert 0.08 < dropped.mean() < 0.12
    again = np.asarray(drop(text, keys[::-1]).tokens[:, 0]) == LABELS.classes
    np.testing.assert_array_equal(again[::-1], dropped)


def test_grid_loss_is_a_sum_and_a_count_at_one_time_and_compiles_once():
    batch, params = batch_of(), parameters()
    run = jax.jit(DENOISING.grid_loss)
    totals = [run(params, KEY, batch, jnp.float32(t)) for t in (0.1, 0.5, 0.9)]
    assert run._cache_size() == 1
    np.testing.assert_allclose([total["loss/count"] for total in totals], 4, rtol=1e-5)
    assert len({float(total["loss/sum"]) for total in totals}) == 3
    parts = [run(params, KEY, only(batch, row), jnp.float32(0.5)) for row in range(4)]
    added = sum(float(part["loss/sum"]) for part in parts)
    np.testing.assert_allclose(totals[1]["loss/sum"], added, rtol=1e-6)


@pytest.mark.parametrize("guidance", [Guidance(), Guidance(scale=3.0)])
def test_the_estimator_is_the_model_with_guidance(guidance):
    batch, params = batch_of(), parameters()
    null = LABELS.null(4)
    extent = DENOISING.latent_extent(batch.extent)

    @jax.jit
    def run(params, x, text, negative):
        plain = DENOISING.estimator(params, DENOISING.condition(params, text), extent=extent)
        against = DENOISING.estimator(params, DENOISING.condition(params, negative), extent=extent)
        condition = DENOISING.condition(params, text, guidance=guidance)
        found = DENOISING.estimator(params, condition, extent=extent, guidance=guidance)
        field = jnp.full((4, 3, 1, 1), 0.5)
        return found(x, 0.5), found(x, field), plain(x, 0.5), against(x, 0.5)

    nothing = Text(tokens=null[0], length=null[1])
    scalar, field, conditional, unconditional = run(params, batch.latent, batch.text, nothing)
    expected = unconditional.clean + guidance.scale * (conditional.clean - unconditional.clean)
    np.testing.assert_allclose(scalar.clean, expected, atol=1e-5)
    np.testing.assert_allclose(field.clean, scalar.clean, atol=1e-6)
    np.testing.assert_allclose(0.5 * scalar.clean + 0.5 * scalar.noise, batch.latent, atol=1e-5)
    assert np.any(np.abs(conditional.clean - unconditional.clean) > 1e-3)


def test_a_negative_caption_takes_the_place_of_the_null_one():
    batch, params = batch_of(), parameters()
    other = Text(tokens=(batch.text.tokens + 1) % 5, length=batch.text.length)

    @jax.jit
    def run(params, x, text, other):
        guidance = Guidance(scale=0.0)
        condition = DENOISING.condition(params, text, guidance=guidance, negative=other)
        away = DENOISING.estimator(params, condition, guidance=guidance)
        alone = DENOISING.estimator(params, DENOISING.condition(params, other))
        return away(x, 0.5).clean, alone(x, 0.5).clean

    found, expected = run(params, batch.latent, batch.text, other)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_sampling_leaves_given_frames_alone():
    batch, params = batch_of(), parameters()
    start = jnp.ones((4, 3, 1, 1)).at[:, 0].set(0.0)

    @jax.jit
    def run(params, x, text):
        guidance = Guidance(scale=2.0, interval=(0.2, 0.9))
        condition = DENOISING.condition(params, text, guidance=guidance)
        estimate = DENOISING.estimator(params, condition, known=start == 0, guidance=guidance)
        return Euler(steps=3).sample(estimate, x, schedule=RectifiedFlow(), start=start)

    found = run(params, batch.latent, batch.text)
    np.testing.assert_array_equal(found[:, 0], batch.latent[:, 0])
    assert np.all(np.isfinite(found)) and np.all(np.asarray(found != batch.latent)[:, 1:])


def test_extents_in_latents_are_those_of_the_autoencoder_and_tokens_cover_them():
    objective = Denoising(model=LOCAL, text=LABELS)
    extent = jnp.array([[0, 0, 0], [1, 1, 1], [2, 8, 9], [5, 16, 17], [17, 64, 120]])
    found = objective.latent_extent(extent)
    np.testing.assert_array_equal(found, VAE().latent_extent(extent))
    np.testing.assert_array_equal(found, [[0, 0, 0], [1, 1, 1], [2, 1, 2], [2, 2, 3], [5, 8, 15]])
    np.testing.assert_array_equal(objective.tokens(found), [0, 1, 2, 4, 5 * 4 * 8])


TRANSFORMER = Denoising(
    model=DiT(**TINY, text_width=8),
    text=ByteEncoder(width=8, depth=1, heads=2, length=6),
    times=Shifted(reference_tokens=4),
    factor=Size(4, 2, 2),
)


def captioned_batch():
    tokens = np.random.default_rng(5).integers(0, 256, (4, 6))
    text = Text(tokens=jnp.asarray(tokens), length=jnp.array([6, 1, 3, 2]))
    return dataclasses.replace(batch_of(), text=text)


def test_the_transformer_and_the_text_encoder_fit_the_objective():
    batch = captioned_batch()
    params = jax.eval_shape(TRANSFORMER.init, KEY, batch)
    assert set(params) == {"model", "text"}
    assert all(
        isinstance(box, nn.LogicallyPartitioned)
        for box in jax.tree.leaves(
            params, is_leaf=lambda leaf: isinstance(leaf, nn.LogicallyPartitioned)
        )
    )
    loss, metrics = jax.eval_shape(TRANSFORMER.loss, params, KEY, batch, 0)
    assert loss.shape == () and len(metrics) == 9
    guidance, known = Guidance(scale=3.0), jnp.zeros((4, 3, 1, 1), bool)

    def estimate(params, text, x):
        condition = TRANSFORMER.condition(params, text, guidance=guidance)
        return TRANSFORMER.estimator(params, condition, known=known, guidance=guidance)(x, 0.5)

    found = jax.eval_shape(estimate, params, batch.text, batch.latent)
    assert found.clean.shape == batch.latent.shape


@pytest.mark.slow
def test_the_transformer_learns_and_padding_never_changes_its_loss_or_gradient():
    batch = captioned_batch()
    spoiled = batch.latent.at[1, 2:].set(1e4).at[2, 1:].set(-1e4).at[3, :, 1:].set(jnp.inf)
    params = parameters(TRANSFORMER, batch)
    loss, _, gradient = loss_of(batch, TRANSFORMER, params)
    again, _, same = loss_of(dataclasses.replace(batch, latent=spoiled), TRANSFORMER, params)
    np.testing.assert_allclose(again, loss, rtol=1e-5)
    for one, two in zip(jax.tree.leaves(gradient), jax.tree.leaves(same), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-3, atol=1e-4)
    stepped = jax.tree.map(lambda p, g: p - 1e-3 * g, params, gradient)
    assert loss_of(batch, TRANSFORMER, stepped)[0] < loss


def test_objectives_survive_their_json_form():
    model, text = DiT(**TINY), ByteEncoder(width=8, depth=1, heads=2)
    for objective in (
        Denoising(model=model, text=text, times=Shifted(cap=5.0)),
        Denoising(model=model, text=LABELS, schedule=EDM(rho=5.0), prediction=EDMPreconditioned()),
        Denoising(
            model=model,
            text=text,
            schedule=ZeroTerminalSNR(chain=CosineDDPM()),
            prediction=V(),
        ),
    ):
        assert from_json(to_json(objective)) == objective


def test_parts_that_do_not_suit_one_another_are_refused_when_the_objective_is_made():
    with pytest.raises(ValueError, match="noise prediction with RectifiedFlow"):
        Denoising(model=LOCAL, text=LABELS, prediction=Noise())
    with pytest.raises(ValueError, match=r"times\.schedule"):
        Denoising(model=LOCAL, text=LABELS, schedule=EDM(rho=5.0), times=LogNormalSigma())
    with pytest.raises(ValueError, match=r"caption_dropout=1\.5"):
        Denoising(model=LOCAL, text=LABELS, caption_dropout=1.5)


def test_batches_without_latents_or_with_too_long_captions_say_what_to_do():
    batch, params = batch_of(), parameters()
    with pytest.raises(ValueError, match="sora-jax encode"):
        DENOISING.loss(params, KEY, dataclasses.replace(batch, latent=None), 0)
    long = Text(tokens=jnp.zeros((4, 2), int), length=jnp.ones(4, int))
    with pytest.raises(ValueError, match="2 tokens, but the null caption of LabelEncoder has 1"):
        DENOISING.drop_captions(long, jax.random.split(KEY, 4))
