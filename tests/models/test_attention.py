"""What attention promises, against softmax in float64, for few logits and for many."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sora_jax.arrays import Size
from sora_jax.models import flash as module
from sora_jax.models.attention import AUTO, Attention, MultiHead, attention
from sora_jax.models.embeddings import Rotary, rotary
from sora_jax.models.kernels import _block, front

# Bytes below which logits are stored, and of a block of them: everything stored; all heads in one
# block; two heads in a block; part of the queries of one head, the last block padded.
LAYOUTS = {"stored": (2**20, 2**20), "whole": (0, 2**20), "heads": (0, 600), "queries": (0, 100)}


@pytest.fixture(params=list(LAYOUTS))
def layout(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    stored, block = LAYOUTS[request.param]
    monkeypatch.setattr(module, "STORED", stored)
    monkeypatch.setattr(module, "_CPU_BLOCK", block)
    return request.param


def arrays(*, batch: int = 2, queries: int = 7, keys: int = 9) -> list[np.ndarray]:
    """Query, key, value and a gradient of the output."""
    random = np.random.default_rng(0)
    lengths = (queries, keys, keys, queries)
    return [random.standard_normal((batch, n, 3, 4)).astype(np.float32) for n in lengths]


def oracle(query: Any, key: Any, value: Any, change: Any, valid: np.ndarray) -> list[np.ndarray]:
    """Output and gradients in float64."""
    q, k, v, g = (np.asarray(x, np.float64).swapaxes(1, 2) for x in (query, key, value, change))
    logits = np.where(valid[:, None, None], q @ k.swapaxes(2, 3) / np.sqrt(q.shape[-1]), -np.inf)
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    out, d_weights = weights @ v, g @ v.swapaxes(2, 3)
    scale = q.shape[-1] ** -0.5
    d_logits = weights * (d_weights - (weights * d_weights).sum(-1, keepdims=True)) * scale
    changes = d_logits @ k, d_logits.swapaxes(2, 3) @ q, weights.swapaxes(2, 3) @ g
    return [x.swapaxes(1, 2) for x in (out, *changes)]


def results(
    query: Any, key: Any, value: Any, change: Any, valid: Any, how: Any = AUTO, keys: Any = None
) -> list[jax.Array]:
    """Output and gradients, of a program traced anew for each layout."""

    def read(query: Any, key: Any, value: Any) -> jax.Array:
        return attention(query, key, value, valid=valid, how=how, keys=keys)

    def program(query: Any, key: Any, value: Any, change: Any) -> list[jax.Array]:
        out, backward = jax.vjp(read, query, key, value)
        return [out, *backward(change)]

    return jax.jit(program)(query, key, value, change)


def test_values_and_gradients_are_those_of_softmax(layout: str) -> None:
    inputs, valid = arrays(), np.ones((2, 9), bool)
    for mine, exact in zip(results(*inputs, None), oracle(*inputs, valid), strict=True):
        np.testing.assert_allclose(mine, exact, atol=2e-6)


@pytest.mark.parametrize("garbage", [np.nan, np.inf, 1e30])
def test_masked_keys_never_leak_into_values_or_gradients(layout: str, garbage: float) -> None:
    query, key, value, change = arrays()
    valid = np.arange(9) < np.array([[4], [9]])
    exact = oracle(query, key, value, change, valid)
    key[~valid], value[~valid] = garbage, garbage
    for mine, theirs in zip(
        results(query, key, value, change, jnp.asarray(valid)), exact, strict=True
    ):
        np.testing.assert_allclose(mine, theirs, atol=2e-6)


def test_row_without_a_valid_key_gives_zeros(layout: str) -> None:
    query, key, value, change = arrays()
    valid = jnp.zeros((2, 9), bool).at[1].set(True)
    for array in results(query, key, value, change, valid):
        assert np.isfinite(array).all()
        assert (array[0] == 0).all()


def test_result_has_the_type_of_the_query(layout: str) -> None:
    query, key, value, change = (x.astype(jnp.bfloat16) for x in arrays())
    exact = oracle(query, key, value, change, np.ones((2, 9), bool))
    for mine, theirs in zip(results(query, key, value, change, None), exact, strict=True):
        assert mine.dtype == jnp.bfloat16
        np.testing.assert_allclose(mine.astype(jnp.float32), theirs, atol=5e-2)


def largest(jaxpr: Any) -> int:
    """The number of values of the largest array that a program makes."""
    sizes = [variable.aval.size for equation in jaxpr.eqns for variable in equation.outvars]
    parameters = [equation.params for equation in jaxpr.eqns]
    for leaf in jax.tree.leaves(parameters, is_leaf=lambda x: hasattr(x, "eqns")):
        body = getattr(leaf, "jaxpr", leaf)
        sizes += [largest(body)] if hasattr(body, "eqns") else []
    return max(sizes, default=0)


def test_many_logits_are_never_stored_at_once() -> None:
    tokens = 4096
    shape = jax.ShapeDtypeStruct((1, tokens, 2, 8), jnp.float32)
    valid = jax.ShapeDtypeStruct((1, tokens), bool)

    def loss(query: Any, key: Any, value: Any, valid: Any) -> jax.Array:
        return attention(query, key, value, valid=valid).sum()

    program = jax.make_jaxpr(jax.grad(loss, (0, 1, 2)))(shape, shape, shape, valid)
    assert 4 * largest(program.jaxpr) <= module._CPU_BLOCK < 4 * tokens**2


@pytest.mark.parametrize(
    ("kernel", "across"),
    [
        ("splash", None),
        ("xla", "gather"),
        ("xla", "ulysses"),
        ("xla", "ring"),
        ("splash", "gather"),
    ],
)
def test_no_kernel_makes_an_array_of_queries_and_keys(kernel: Any, across: Any) -> None:
    tokens = 4096
    shape = jax.ShapeDtypeStruct((1, tokens, 2, 8), jnp.float32)
    valid = jax.ShapeDtypeStruct((1, tokens), bool)
    how, keys = Attention(kernel=kernel, across=across or "auto"), "tokens" if across else None

    def loss(query: Any, key: Any, value: Any, valid: Any) -> jax.Array:
        return attention(query, key, value, valid=valid, how=how, keys=keys).sum()

    with sharded(data=1, sequence=2) if across else contextlib.nullcontext():
        program = jax.make_jaxpr(jax.grad(loss, (0, 1, 2)))(shape, shape, shape, valid)
    # Blocks of 1024 x 1024 at most, of a head or two.
    assert 0 < largest(program.jaxpr) <= 2 * 1024**2 < tokens**2 / 4


@pytest.mark.parametrize("across", ["gather", "ulysses", "ring", "auto"])
@pytest.mark.parametrize("layout", ["stored", "queries"], indirect=True)
def test_devices_that_share_the_tokens_agree_with_softmax(layout: str, across: Any) -> None:
    inputs = [x[:, :, :2] for x in arrays(batch=2, queries=8, keys=8)]
    valid = jnp.arange(8) < jnp.array([[1], [8]])  # most devices hold nothing of the first row
    exact = oracle(*inputs, np.asarray(valid))
    with sharded(data=2, sequence=4 if across != "ulysses" else 2):
        found = results(*inputs, valid, Attention(across=across), "tokens")
    for mine, theirs in zip(found, exact, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=2e-6)


@pytest.mark.parametrize("across", ["ulysses", "gather"])
def test_devices_that_share_the_tokens_agree_with_softmax_by_splash(across: Any) -> None:
    """As TPUs do it, with the kernel interpreted."""
    inputs = [x[:, :, :2] for x in arrays(batch=2, queries=12, keys=12)]
    valid = jnp.arange(12) % 3 > jnp.array([[0], [-1]])
    exact = oracle(*inputs, np.asarray(valid))
    with sharded(data=2, sequence=2):
        found = results(*inputs, valid, Attention(kernel="splash", across=across), "tokens")
    for mine, theirs in zip(found, exact, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=3e-6)


@pytest.mark.parametrize("layout", ["stored"], indirect=True)
def test_keys_that_all_devices_have_are_read_where_the_queries_are(layout: str) -> None:
    inputs, valid = arrays(batch=2, queries=8, keys=5), jnp.arange(5) < jnp.array([[3], [5]])
    with sharded(data=2, sequence=4):
        found = results(*inputs, valid, AUTO, "text")
    for mine, theirs in zip(found, oracle(*inputs, np.asarray(valid)), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=2e-6)


def test_heads_that_ulysses_cannot_deal_out_are_named() -> None:
    inputs = arrays(batch=2, queries=8, keys=8)
    kernel = Attention(kernel="splash", across="ring")
    with sharded(data=2, sequence=2), pytest.raises(ValueError, match=r"splash.* ring .* xla"):
        results(*inputs, None, kernel, "tokens")
    with sharded(data=2, sequence=2), pytest.raises(ValueError, match=r"3 heads .* 2 devices"):
        results(*inputs, None, Attention(across="ulysses"), "tokens")


@contextlib.contextmanager
def sharded(*, data: int, sequence: int) -> Iterator[None]:
    mesh = jax.make_mesh(
        (data, sequence),
        ("data", "sequence"),
        axis_types=(jax.sharding.AxisType.Auto,) * 2,
        devices=jax.devices()[: data * sequence],
    )
    rules = (("batch", "data"), ("tokens", "sequence"), ("activation_heads", None), ("text", None))
    with jax.set_mesh(mesh), nn.logical_axis_rules(rules):
        yield


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("tokens", [(7, 9), (130, 260)])
def test_splash_is_softmax(tokens: tuple[int, int], masked: bool) -> None:
    """The TPU's kernel, interpreted."""
    queries, keys = tokens
    inputs = [x[:, :, :1] for x in arrays(queries=queries, keys=keys)]
    valid = np.arange(keys) % 3 > np.array([[0], [-1]])  # padding between, as that of columns
    exact = oracle(*inputs, valid if masked else np.ones_like(valid))
    how = Attention(kernel="splash")
    found = results(*inputs, jnp.asarray(valid) if masked else None, how)
    for mine, theirs in zip(found, exact, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=3e-6)


def test_blocks_of_splash_leave_little_empty() -> None:
    for tokens in (1, 127, 128, 1100, 32_768, 75_600):
        block = _block(tokens)
        assert block % 128 == 0 and block <= 1024
        assert -tokens % block < 128 * -(-tokens // 1024)


def test_valid_keys_come_to_the_front_in_their_order() -> None:
    key = jnp.arange(10.0).reshape(2, 5, 1, 1)
    valid = jnp.array([[False, True, False, True, True], [True, False, False, False, False]])
    moved, value, count = front(key, key, valid)
    assert moved[0, :3, 0, 0].tolist() == [1, 3, 4] and moved[1, 0, 0, 0] == 5
    assert (moved == value).all() and count.tolist() == [3, 1]

    def weighed(key: Any) -> Any:
        return (front(key, key, valid)[0] * jnp.arange(5.0)[:, None, None]).sum()

    # On the way back each goes where it came from: nothing is added up, which is slow on a GPU.
    assert jax.grad(weighed)(key)[0, :, 0, 0].tolist() == [3, 0, 4, 1, 2]
    assert "scatter" not in str(jax.make_jaxpr(jax.grad(weighed))(key))


@pytest.mark.skipif(jax.default_backend() != "gpu", reason="cuDNN's kernel needs a GPU")
@pytest.mark.parametrize("masked", [False, True])
def test_cudnn_is_softmax(masked: bool) -> None:
    inputs = [jnp.tile(x, (1, 20, 1, 16)).astype(jnp.bfloat16) for x in arrays()]
    valid = np.arange(180) % 3 > np.array([[0], [-1]])
    exact = oracle(*inputs, valid if masked else np.ones_like(valid))
    found = results(*inputs, jnp.asarray(valid) if masked else None, Attention(kernel="cudnn"))
    for mine, theirs in zip(found, exact, strict=True):
        np.testing.assert_allclose(mine.astype(jnp.float32), theirs, atol=5e-2)


def test_tokens_attend_to_near_ones_from_the_start_where_that_is_asked_for() -> None:
    grid, width, heads = Size(3, 5, 5), 96, 3
    turn = rotary(grid, width // heads, Rotary(fastest=1.57, base=10.0))
    x = jnp.zeros((1, 75, width))

    def weights(near: float) -> np.ndarray:
        attend = MultiHead(width, heads, "float32", nn.initializers.zeros_init(), near)
        params = attend.init(jax.random.key(0), x, turn, method="queries")
        queries = attend.apply(params, x, turn, method="queries")
        logits = jnp.einsum("bqhd,bkhd->hqk", queries, queries) / (width // heads) ** 0.5
        return np.asarray(jax.nn.softmax(logits)).reshape(heads, *grid, *grid)

    first, _, last = weights(4.0)
    middle = last[1, 2, 2]
    assert middle[1, 2, 2] > 1.2 * middle[1, 2, 3] > 1.2 * middle[1, 2, 4]
    assert middle[1, 2, 2] > 1.2 * middle[0, 2, 2] and middle[1, 2, 2] > 4 * middle[1, 0, 0]
    assert np.allclose(first, 1 / 75) and np.allclose(weights(0.0), 1 / 75)
