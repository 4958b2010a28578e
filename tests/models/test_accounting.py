"""Formulas against the real trees, and against what XLA counts of models without a loop."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from sora_jax.arrays import Size
from sora_jax.models import accounting
from sora_jax.models.autoencoder import Autoencoder
from sora_jax.models.block_vae import PRESETS as LIGHT
from sora_jax.models.block_vae import BlockVAE
from sora_jax.models.discriminator import PatchDiscriminator
from sora_jax.models.dit import PRESETS, DiT
from sora_jax.models.text import ByteEncoder, LabelEncoder, WordEncoder
from sora_jax.models.vae import PRESETS as LARGE
from sora_jax.models.vae import VAE

# One layer: XLA counts the body of a scan once.
ONE_LAYER = DiT(width=256, depth=1, heads=4, mlp=1024, text_width=64)
SIZE, TEXT, BATCH = Size(2, 16, 16), 32, 2


def array(*shape: int, dtype: type = jnp.float32) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype)


def variables_of(model: nn.Module, *inputs: jax.ShapeDtypeStruct) -> dict:
    return nn.meta.unbox(jax.eval_shape(model.init, jax.random.key(0), *inputs))


def count(variables: dict) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


def inputs_of(model: DiT, size: Size = SIZE) -> tuple[jax.ShapeDtypeStruct, ...]:
    return (
        array(BATCH, *size, model.latent_channels),
        array(BATCH, 1, 1, 1),
        array(BATCH, TEXT, model.text_width),
        array(BATCH, dtype=jnp.int32),
    )


@pytest.mark.parametrize("name", ["1M", "5B"])
def test_transformer_parameters_are_those_of_the_tree(name: str) -> None:
    model = PRESETS[name]()
    tree = variables_of(model, *inputs_of(model))
    assert accounting.transformer_parameters(model) == count(tree)


@pytest.mark.parametrize("name", ["tiny", "small", "wan"])
def test_autoencoder_parameters_are_those_of_the_tree(name: str) -> None:
    model = (LIGHT | LARGE)[name]()
    cost = accounting.autoencoder(model, Size(5, 16, 16))
    assert cost.parameters == count(variables_of(model, array(1, 5, 16, 16, 3)))


@pytest.mark.parametrize(
    "model", [ByteEncoder(64, 3, 4), WordEncoder(64, 3, 4), LabelEncoder(5, 16)]
)
def test_text_encoder_parameters_are_those_of_the_tree(model: Any) -> None:
    text = 1 if isinstance(model, LabelEncoder) else 8
    inputs = array(1, text, dtype=jnp.int32), array(1, dtype=jnp.int32)
    assert accounting.text_encoder(model, text=text).parameters == count(
        variables_of(model, *inputs)
    )


def test_transformer_operations_are_those_that_xla_counts() -> None:
    inputs = inputs_of(ONE_LAYER)
    variables = variables_of(ONE_LAYER, *inputs)
    cost = accounting.transformer(ONE_LAYER, SIZE, text=TEXT, batch=BATCH)

    def loss(variables: dict, *inputs: jax.Array) -> jax.Array:
        return ONE_LAYER.apply(variables, *inputs).sum()

    forward = jax.jit(ONE_LAYER.apply).lower(variables, *inputs).cost_analysis()
    training = jax.jit(jax.grad(loss)).lower(variables, *inputs).cost_analysis()
    assert cost.flops == pytest.approx(forward["flops"], rel=0.02)
    # XLA counts elementwise work too, of which a backward pass has more.
    assert cost.training_flops == pytest.approx(training["flops"], rel=0.04)


@pytest.mark.parametrize("remat", ["none", "save_attention", "full"])
def test_operations_that_are_done_again_are_those_that_xla_counts_beyond_the_model_s(
    remat,
) -> None:
    model = ONE_LAYER.clone(remat=remat)
    inputs = inputs_of(model)
    cost = accounting.transformer(model, SIZE, text=TEXT, batch=BATCH)

    def loss(variables: dict, *inputs: jax.Array) -> jax.Array:
        return model.apply(variables, *inputs).sum()

    step = jax.jit(jax.grad(loss)).lower(variables_of(model, *inputs), *inputs)
    counted = step.cost_analysis()["flops"]
    assert cost.training_flops + cost.recomputed == pytest.approx(counted, rel=0.04)


def test_operations_of_layers_add_up() -> None:
    one, two, three = (
        accounting.transformer(ONE_LAYER.clone(depth=depth), SIZE, text=TEXT) for depth in (1, 2, 3)
    )
    assert three.flops - two.flops == two.flops - one.flops > 0


def test_autoencoder_operations_are_those_that_xla_counts() -> None:
    model = VAE(base=16, multipliers=(1, 2, 2), temporal=(False, True), blocks=1, form="native")
    clip = array(1, 5, 32, 48, 3)
    counted = jax.jit(model.apply).lower(variables_of(model, clip), clip).cost_analysis()
    cost = accounting.autoencoder(model, Size(5, 32, 48))
    assert cost.flops == pytest.approx(counted["flops"], rel=0.02)


CODERS = {
    "convolutions": VAE(
        base=8, multipliers=(1, 2), temporal=(True,), blocks=1, form="native", remat="blocks"
    ),
    "blocks": BlockVAE(width=32, hidden=16, blocks=2, form="native", remat="blocks"),
}


@pytest.mark.parametrize("model", CODERS.values(), ids=CODERS)
def test_what_an_autoencoder_does_again_is_what_xla_counts_beyond_its_own(
    model: Autoencoder,
) -> None:
    clip = array(1, 5, 16, 32, 3)
    counted = []
    for each in (model, model.clone(remat="none")):

        def loss(variables: dict, clip: jax.Array, each: Any = each) -> jax.Array:
            return jnp.square(each.apply(variables, clip)[0]).sum()

        step = jax.jit(jax.grad(loss)).lower(variables_of(each, clip), clip)
        counted.append(step.cost_analysis()["flops"])
    again = accounting.autoencoder(model, Size(5, 16, 32)).recomputed
    assert again == pytest.approx(counted[0] - counted[1], rel=0.1)


def test_a_discriminator_s_parameters_and_operations_are_those_of_the_tree_and_of_xla() -> None:
    model, clip = PatchDiscriminator(width=8, levels=3, form="native"), array(2, 3, 20, 36, 3)
    variables = variables_of(model, clip)
    cost = accounting.discriminator(model, Size(3, 20, 36), batch=2)
    counted = jax.jit(model.apply).lower(variables, clip).cost_analysis()["flops"]
    assert cost.parameters == count(variables)
    assert cost.flops == pytest.approx(counted, rel=0.05)


SLOW = [pytest.param(remat, marks=pytest.mark.slow) for remat in ("save_attention", "full")]


@pytest.mark.parametrize("remat", ["none", *SLOW])
def test_transformer_bytes_are_near_those_that_xla_plans(remat) -> None:
    model = DiT(width=96, depth=4, heads=2, mlp=384, text_width=32, remat=remat)
    size = Size(2, 24, 24)
    inputs = inputs_of(model, size)
    variables = variables_of(model, *inputs)
    cost = accounting.transformer(model, size, text=TEXT, batch=BATCH)

    def loss(variables: dict, *inputs: jax.Array) -> jax.Array:
        return jnp.square(model.apply(variables, *inputs)).mean()

    planned = jax.jit(jax.grad(loss)).lower(variables, *inputs).compile().memory_analysis()
    assert planned.temp_size_in_bytes == pytest.approx(
        cost.training_bytes() - cost.state_bytes(), rel=0.3
    )


def test_a_long_clip_is_decoded_a_part_at_a_time_and_a_large_one_in_tiles() -> None:
    vae = LIGHT["small"]()
    whole = accounting.decoder_bytes(vae, Size(81, 720, 1280), latents_at_once=8)
    # Eight latents of four frames at once, and the first frame.
    assert whole == accounting.decoding(vae, Size(33, 720, 1280)).working_bytes
    assert accounting.decoder_bytes(vae, Size(81, 720, 1280), latents_at_once=8, tile=40) < whole


def test_autoencoder_bytes_are_near_those_that_xla_plans() -> None:
    model, clip = LIGHT["tiny"](), array(1, 9, 64, 64, 3)
    variables = variables_of(model, clip)
    cost = accounting.decoding(model, Size(9, 64, 64))
    latent = array(1, 3, 8, 8, 16)

    def decode(variables: dict, latent: jax.Array) -> jax.Array:
        return model.apply(variables, latent, method="decode")

    planned = jax.jit(decode).lower(variables, latent).compile().memory_analysis()
    assert planned.temp_size_in_bytes == pytest.approx(cost.working_bytes, rel=0.4)
