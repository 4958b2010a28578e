"""What is read from the text of a compiled program."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec

from sora_jax.parallel.hlo import Collective, collectives, dense, gathered, kernels

TEXT = """\
HloModule jit_step

%body.1 (parameter: (s32[], f32[8,128])) -> (s32[], f32[8,128]) {
  %gathered = bf16[1,1536,64]{2,1,0:T(8,128)} all-gather(%shard), replica_groups=mesh['x'=4,'y'=2,\
'z'=4] {'x','z'}, dimensions={1}
  %fused = f32[8,128]{1,0} fusion(%gathered), kind=kOutput, calls=%inner.2
}

%inner.2 (parameter.1: bf16[4]) -> bf16[4] {
  ROOT %swapped = bf16[4,10]{1,0} all-to-all(%parameter.1), replica_groups=[4,2]<=[8]
}

%all-reduce-scatter.4 (input: f32[64,8]) -> f32[16,8] {
  %whole = f32[64,8]{1,0} all-reduce(%input), replica_groups={{0,1,2,3}}, to_apply=%add
  ROOT %part = f32[16,8]{1,0} dynamic-slice(%whole, %row, %zero), dynamic_slice_sizes={16,8}
}

%condition.3 (parameter.2: (s32[], f32[8,128])) -> pred[] {
  %limit = s32[]{:T(128)} constant(30)
  ROOT %less = pred[] compare(%index, %limit), direction=LT
}

ENTRY %main (argument: f32[8]) -> f32[8] {
  %loop = (s32[], f32[8,128]) while(%start), condition=%condition.3, body=%body.1
  %sum = f32[100]{0} all-reduce(%argument), replica_groups={{0,1,2,3},{4,5,6,7}}, to_apply=%add
  %scattered = f32[25]{0} reduce-scatter(%argument), replica_groups={{0,1,2,3}}, dimensions={0}
  %passed = f32[6]{0} collective-permute(%argument), source_target_pairs={{0,1},{1,0}}
  %sums = (f32[100]{0:T(8,128)}, f32[50]{0}) all-reduce(%a, %b), replica_groups={{0,1}}, \
to_apply=%add
  %begun = ((f32[10]{0}, bf16[4]{0}), (f32[20]{0:T(256)}, bf16[8]{0})) all-gather-start(%a, %b), \
replica_groups={{0,1}}, dimensions={0}
  %own = f32[16,8]{1,0} fusion(%argument), kind=kCustom, calls=%all-reduce-scatter.4
  %alone = f32[6]{0} all-reduce(%argument), replica_groups={{0},{1}}, to_apply=%add
  %splash_mha_fwd_segmented.5 = (f32[4]) custom-call(%q), custom_call_target="tpu_custom_call"
}
"""


def test_loops_count_as_often_as_they_run_and_devices_by_every_notation() -> None:
    assert collectives(TEXT) == [
        Collective("all-gather", 16, 30, 30 * int(1536 * 64 * 2 * 15 / 16)),
        Collective("reduce-scatter", 4, 2, 300 + 64 * 8 * 3),
        Collective("all-to-all", 2, 30, 30 * 40),
        Collective("all-reduce", 4, 1, 600),
        Collective("all-reduce", 2, 1, 600),
        Collective("all-gather", 2, 1, 48),
        Collective("collective-permute", 2, 1, 24),
    ]


def test_gathered_arrays_have_the_shape_of_the_whole() -> None:
    assert (1, 1536, 64) in gathered(TEXT)
    # Also of what is summed, but for sums of which each device keeps a part.
    assert (100,) in gathered(TEXT) and (64, 8) not in gathered(TEXT)


def test_kernels_are_named_without_their_numbers() -> None:
    assert kernels(TEXT) == {"splash_mha_fwd_segmented"}


def test_a_program_that_xla_compiled_here_is_read() -> None:
    mesh = jax.make_mesh((8,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))

    def step(x: Any) -> Any:
        def layer(carry: Any, _: None) -> tuple[Any, None]:
            return lax.psum(carry, "x") / 8, None

        return lax.scan(layer, x, length=5)[0]

    rows = PartitionSpec("x")
    shared = jax.shard_map(step, mesh=mesh, in_specs=rows, out_specs=rows, check_vma=False)
    compiled = jax.jit(shared).lower(jnp.zeros((8, 16))).compile()
    (found,) = collectives(compiled.as_text())
    assert found == Collective("all-reduce", 8, 5, 5 * int(2 * 64 * 7 / 8))


def test_layers_gathered_all_at_once_are_told_from_those_gathered_in_turn() -> None:
    mesh = jax.make_mesh((8,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    cut, whole = (
        jax.sharding.NamedSharding(mesh, PartitionSpec(*axes)) for axes in ((None, "x"), ())
    )

    def step(kernels: Any, x: Any, *, at_once: bool) -> Any:
        def layer(carry: Any, kernel: Any) -> tuple[Any, None]:
            return jnp.tanh(carry @ lax.with_sharding_constraint(kernel, whole)), None

        if at_once:
            kernels = lax.with_sharding_constraint(kernels, whole)
        return lax.scan(layer, x, kernels)[0]

    def shapes(at_once: bool) -> set[tuple[int, ...]]:
        jitted = jax.jit(functools.partial(step, at_once=at_once), in_shardings=(cut, whole))
        kernels, x = jnp.zeros((5, 16, 16)), jnp.zeros((4, 16))
        return gathered(jitted.lower(kernels, x).compile().as_text())

    assert (5, 16, 16) in shapes(at_once=True)
    assert (5, 16, 16) not in shapes(at_once=False)


def test_attention_with_a_number_for_each_pair_of_tokens_is_seen() -> None:
    def attention(q: Any, k: Any) -> Any:
        return jax.nn.softmax(q @ k.T) @ k

    text = jax.jit(attention).lower(jnp.zeros((24, 8)), jnp.zeros((24, 8))).compile().as_text()
    assert (24, 24) in dense(text, 24)
    text = jax.jit(attention).lower(jnp.zeros((24, 8)), jnp.zeros((8, 8))).compile().as_text()
    assert not dense(text, 24)
    assert not dense("%w = f32[1024,1024]{1,0} parameter(0)", 1000, widths={1024})
    assert dense("%x = bf16[2,8,1024,1024]{3,2,1,0} dot(%q, %k)", 1000) == {(2, 8, 1024, 1024)}
