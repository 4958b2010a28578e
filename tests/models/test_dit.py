"""What the diffusion transformer promises."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sora_jax.models.accounting import transformer_parameters
from sora_jax.models.attention import Attention
from sora_jax.models.dit import PRESETS, DiT
from sora_jax.models.kernels import CUDNN
from sora_jax.parallel.hlo import gathered
from sora_jax.parallel.mesh import Mesh

TINY = DiT(
    width=24, depth=2, heads=2, mlp=40, latent_channels=3, text_width=10, pooled=True, places=2
)


def inputs(*, size: tuple[int, int, int] = (2, 4, 6), batch: int = 2) -> dict[str, Any]:
    random = np.random.default_rng(0)
    return {
        "latent": jnp.asarray(random.standard_normal((batch, *size, 3)), jnp.float32),
        "sigma": jnp.asarray(random.random((batch, size[0], 1, 1)), jnp.float32),
        "text_features": jnp.asarray(random.standard_normal((batch, 5, 10)), jnp.float32),
        "text_length": jnp.full(batch, 5),
    }


@pytest.fixture(scope="module")
def variables() -> Any:
    """Parameters that are all random, so that no branch is shut."""
    shapes = nn.meta.unbox(jax.eval_shape(TINY.init, jax.random.key(0), **inputs()))
    leaves, tree = jax.tree.flatten(shapes)
    random = np.random.default_rng(1)
    return tree.unflatten([0.3 * random.standard_normal(x.shape, np.float32) for x in leaves])


@jax.jit
def run(variables: Any, **inputs: Any) -> Any:
    return TINY.apply(variables, **inputs)


def outcome(model: DiT, variables: Any, target: Any, inputs: dict[str, Any]) -> Any:
    """The output, and the gradients of its error for parameters, latent and text."""

    def loss(variables: Any, latent: Any, text_features: Any) -> tuple[jax.Array, Any]:
        changed = inputs | {"latent": latent, "text_features": text_features}
        out: Any = model.apply(variables, **changed)
        return jnp.square(out - target).sum(), out

    seen = variables, inputs["latent"], inputs["text_features"]
    gradients, out = jax.grad(loss, (0, 1, 2), has_aux=True)(*seen)
    return out, gradients


jitted_outcome = jax.jit(outcome, static_argnums=0)


def assert_near(mine: Any, other: Any) -> None:
    for a, b in zip(jax.tree.leaves(mine), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-4 * np.abs(a).max())


@pytest.mark.parametrize(("name", "count"), [("1.3B", 1_418_996_800), ("14B", 14_288_491_584)])
def test_preset_of_wan_has_as_many_parameters_as_published(name: str, count: int) -> None:
    model = PRESETS[name]()
    shapes = jax.eval_shape(
        model.init,
        jax.random.key(0),
        jax.ShapeDtypeStruct((1, 1, 2, 2, 16), jnp.float32),
        jax.ShapeDtypeStruct((1, 1, 1, 1), jnp.float32),
        jax.ShapeDtypeStruct((1, 1, 4096), jnp.float32),
        jax.ShapeDtypeStruct((1,), jnp.int32),
    )
    leaves = jax.tree.leaves(nn.meta.unbox(shapes["params"]))
    assert sum(leaf.size for leaf in leaves) == count + model.width  # the embedding of `known`
    assert all(leaf.dtype == jnp.float32 for leaf in leaves)


@pytest.mark.parametrize("name", list(PRESETS))
def test_preset_is_as_large_as_its_name_says(name: str) -> None:
    said = float(name[:-1]) * {"M": 1e6, "B": 1e9}[name[-1]]
    assert transformer_parameters(PRESETS[name]()) == pytest.approx(said, rel=0.1)


def test_fresh_model_predicts_zero() -> None:
    small = TINY.clone(depth=1)
    out, _ = jax.jit(small.init_with_output)(jax.random.key(0), **inputs())
    assert (out == 0).all()


def test_known_changes_nothing_until_it_is_learned(variables: Any) -> None:
    learned, given = variables["params"], jnp.ones((2, 2, 1, 1), bool).at[:, 1].set(False)
    unlearned = {"params": learned | {"known": jnp.zeros_like(learned["known"])}}
    nothing = jnp.zeros_like(given)
    np.testing.assert_array_equal(
        run(unlearned, **inputs(), known=given), run(unlearned, **inputs(), known=nothing)
    )
    plain = run(variables, **inputs())
    assert np.abs(run(variables, **inputs(), known=given) - plain).max() > 1e-3
    np.testing.assert_allclose(run(variables, **inputs(), known=nothing), plain, atol=1e-5)


SMALL = (2, 3, 5)


@pytest.fixture(scope="module")
def alone(variables: Any) -> Any:
    """The outcome for two clips without any padding."""
    return jitted_outcome(TINY, variables, jnp.ones((2, *SMALL, 3)), inputs(size=SMALL))


@pytest.mark.parametrize("garbage", [np.nan, np.inf, 1e4])
def test_padding_never_changes_the_valid_part(variables: Any, alone: Any, garbage: float) -> None:
    """Two clips in a larger box, and beside them a row that is empty."""

    def padded(x: jax.Array, *ends: int) -> jax.Array:
        grow = [(0, 1), *((0, end) for end in ends)]
        grow += [(0, 0)] * (x.ndim - len(grow))
        return jnp.pad(x, grow, constant_values=garbage)

    clips = inputs(size=SMALL)
    batch = {
        "latent": padded(clips["latent"], 2, 3, 1),
        "sigma": padded(clips["sigma"], 2),
        "text_features": padded(clips["text_features"], 3),
        "text_length": jnp.array([5, 5, 0]),
        "extent": jnp.array([SMALL, SMALL, (0, 0, 0)]),
    }
    # The target is zero where the output is: what is padding adds no error.
    target = jnp.zeros(batch["latent"].shape).at[:2, :2, :3, :5].set(1.0)
    out, gradients = jitted_outcome(TINY, variables, target, batch)
    clips_of = gradients[0], gradients[1][:2, :2, :3, :5], gradients[2][:2, :5]
    assert_near(alone, (out[:2, :2, :3, :5], clips_of))
    assert (out[:, 2:] == 0).all() and (out[:, :, 3:] == 0).all() and (out[2] == 0).all()
    for gradient, valid in ((gradients[1], SMALL), (gradients[2], (5,))):
        beyond = gradient.at[(slice(2), *map(slice, valid))].set(0.0)
        assert (beyond == 0).all()


def test_noise_field_reaches_the_places_it_is_said_of(variables: Any) -> None:
    seen = inputs(size=(2, 4, 6))
    full = jnp.broadcast_to(seen["sigma"], (2, 2, 4, 6))
    by_frame = run(variables, **seen)
    np.testing.assert_allclose(run(variables, **seen | {"sigma": full}), by_frame, atol=2e-5)
    # A patch is as noisy as its noisiest place.
    uneven = full.at[:, :, 1::2].mul(0.5)
    np.testing.assert_allclose(run(variables, **seen | {"sigma": uneven}), by_frame, atol=2e-5)
    rows = seen["sigma"][:, :1] * jnp.linspace(0, 1, 4)[:, None]
    spread = jnp.broadcast_to(rows, full.shape)
    np.testing.assert_allclose(
        run(variables, **seen | {"sigma": rows}),
        run(variables, **seen | {"sigma": spread}),
        atol=2e-5,
    )


def shapes(jaxpr: Any) -> set[tuple[int, ...]]:
    """The shapes of all arrays that a program makes."""
    found = {variable.aval.shape for equation in jaxpr.eqns for variable in equation.outvars}
    parameters = [equation.params for equation in jaxpr.eqns]
    for leaf in jax.tree.leaves(parameters, is_leaf=lambda x: hasattr(x, "eqns")):
        body = getattr(leaf, "jaxpr", leaf)
        found |= shapes(body) if hasattr(body, "eqns") else set()
    return found


@pytest.mark.parametrize("frames", [1, 4])
def test_modulation_is_as_large_as_the_times_that_differ(variables: Any, frames: int) -> None:
    seen = inputs(size=(4, 8, 8)) | {"sigma": jnp.ones((2, frames, 1, 1))}
    target = jnp.zeros_like(seen["latent"])
    program = jax.make_jaxpr(outcome, static_argnums=0)(TINY, variables, target, seen)
    projected = [
        shape
        for shape in shapes(program.jaxpr)
        if shape[:1] == (2,) and (shape[-1:] == (6 * 24,) or shape[-2:] == (6, 24))
    ]
    assert max(np.prod(shape) for shape in projected) == 2 * frames * 6 * 24


@pytest.mark.parametrize(
    "remat",
    ["offload", *(pytest.param(r, marks=pytest.mark.slow) for r in ("full", "save_attention"))],
)
def test_rematerialisation_changes_nothing(variables: Any, alone: Any, remat: Any) -> None:
    model, target = TINY.clone(remat=remat), jnp.ones((2, *SMALL, 3))
    assert_near(alone, jitted_outcome(model, variables, target, inputs(size=SMALL)))


@pytest.mark.slow
@pytest.mark.parametrize("remat", ["none", "save_attention"])
def test_sharded_model_is_the_model(variables: Any, remat: Any) -> None:
    seen = inputs(size=(2, 4, 8))
    target = jnp.ones((2, 2, 4, 8, 3))
    mesh = Mesh(data=1, fsdp=2, sequence=2, tensor=2)
    with mesh.use(mesh.build()):
        sharded = jitted_outcome(TINY.clone(remat=remat), variables, target, seen)
    assert_near(jitted_outcome(TINY, variables, target, seen), sharded)


@pytest.mark.parametrize("rows", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_devices_that_share_a_clip_do_not_gather_its_tokens(variables: Any, rows: int) -> None:
    """Nor where frames, each with a time of its own, are not as many as devices or a multiple; nor
    where each place has one."""
    batch, size = 3, (3, 4, 8)
    seen = inputs(size=size, batch=batch)
    sigma = np.random.default_rng(2).random((batch, 3, rows, 1))
    seen["sigma"] = jnp.asarray(sigma, jnp.float32)
    seen["extent"] = jnp.tile(jnp.array([[3, 4, 8]]), (batch, 1)).at[0, 2].set(5)
    target = jnp.ones((batch, *size, 3))
    mesh = Mesh(data=1, sequence=2, devices=2)
    with mesh.use(mesh.build()):
        program = jax.jit(outcome, static_argnums=0).lower(TINY, variables, target, seen).compile()
        shared = program(variables, target, seen)
    tokens = 3 * 2 * 4
    whole = batch * tokens * TINY.width
    assert whole not in {math.prod(shape) for shape in gathered(program.as_text())}
    assert_near(jitted_outcome(TINY, variables, target, seen), jax.tree.map(np.asarray, shared))


def test_save_attention_computes_attention_once(
    variables: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sora_jax.models.flash.STORED", 0)

    def exponentials(remat: Any) -> int:
        model = TINY.clone(remat=remat)
        program = jax.make_jaxpr(outcome, static_argnums=0)(model, variables, 0.0, inputs())
        return str(program).count(" exp ")

    assert exponentials("save_attention") == exponentials("none") < exponentials("full")


def test_save_attention_computes_that_of_cudnn_once(
    variables: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Traced alone: neither a GPU nor cuDNN is needed, which JAX would look for."""
    fused = "jax._src.cudnn.fused_attention_stablehlo"
    for check, found in {"check_cudnn_version": 91000, "check_is_flash_attention": None}.items():
        monkeypatch.setattr(f"{fused}.{check}", lambda *_, found=found, **__: found)

    def computed(remat: Any) -> int:
        model = TINY.clone(
            width=32, remat=remat, dtype="bfloat16", attention=Attention(kernel="cudnn")
        )
        made = nn.unbox(jax.eval_shape(model.init, jax.random.key(0), **inputs()))
        program = jax.make_jaxpr(outcome, static_argnums=0)(model, made, 0.0, inputs())
        return str(program).count(f"{CUDNN}[")

    assert computed("save_attention") == computed("none") == 2
    assert computed("full") == 4


def test_bfloat16_is_near_float32(variables: Any) -> None:
    half = TINY.clone(dtype="bfloat16")
    out, exact = jax.jit(half.apply)(variables, **inputs()), run(variables, **inputs())
    assert out.dtype == jnp.float32
    assert np.linalg.norm(out - exact) < 0.05 * np.linalg.norm(exact)


def test_prompt_can_be_read_once_for_all_steps(variables: Any) -> None:
    seen = inputs()
    text = seen.pop("text_features"), seen.pop("text_length")
    read, denoise = (jax.jit(partial(TINY.apply, method=name)) for name in ("read_text", "denoise"))
    out = denoise(variables, **seen, prompt=read(variables, *text))
    np.testing.assert_allclose(out, run(variables, **inputs()), atol=2e-5)


def test_width_that_heads_do_not_divide_is_named() -> None:
    with pytest.raises(ValueError, match=r"width=24 must be a multiple of 2 x heads=5"):
        TINY.clone(heads=5).init(jax.random.key(0), **inputs())


def test_tokens_know_their_places_and_the_text_where_they_are_told(variables: Any) -> None:
    """From noise that is everywhere the same: only what is told can make outputs differ."""
    same = inputs() | {"latent": jnp.ones((2, 2, 4, 6, 3)), "sigma": jnp.ones((2, 1, 1, 1))}
    out = np.asarray(run(variables, **same))[0].reshape(2, 2, 2, 3, 2, 3)
    tokens = out.transpose(0, 1, 3, 2, 4, 5).reshape(12, -1)
    assert len(np.unique(tokens.round(4), axis=0)) == 12
    assert np.abs(out - np.asarray(run(variables, **same))[1].reshape(out.shape)).max() > 1e-3
    blind = TINY.clone(places=0, pooled=False)
    params = {k: v for k, v in variables["params"].items() if k not in ("places_in", "pooled_in")}
    tokens = np.asarray(blind.apply({"params": params}, **same))[0].reshape(2, 2, 2, 3, 2, 3)
    tokens = tokens.transpose(0, 1, 3, 2, 4, 5).reshape(12, -1)
    np.testing.assert_allclose(tokens, np.broadcast_to(tokens[:1], tokens.shape), atol=1e-4)
