"""Rematerialisation: what a layer of the transformer keeps for its backward pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import jax

from sora_jax.models.attention import PRODUCT
from sora_jax.models.flash import ATTENTION
from sora_jax.models.kernels import CUDNN

Remat = Literal["none", "save_attention", "full", "offload"]
"""What a layer keeps for the backward pass: what its linear layers and its attention give, so that
nothing but elementwise functions is computed again; what attention gives, whose cost alone grows
with tokens²; only its input; or that in the memory of the host."""

INPUT = "input"
"""The name (`checkpoint_name`) of what a layer is given."""

KEPT = {"none": (*ATTENTION, PRODUCT), "save_attention": ATTENTION, "full": ()}


def policy(remat: Remat) -> Callable[..., Any]:
    """Returns the policy for `jax.checkpoint`, cuDNN's attention being kept where others' is."""
    policies = jax.checkpoint_policies
    if remat == "offload":
        return policies.save_and_offload_only_these_names(
            names_which_can_be_saved=[],
            names_which_can_be_offloaded=[INPUT],
            offload_src="device",
            offload_dst="pinned_host",
        )
    named = policies.save_only_these_names(*KEPT[remat])

    def keeps(operation: Any, *given: Any, **fields: Any) -> Any:
        if operation.name == CUDNN:
            return ATTENTION[0] in KEPT[remat]
        return named(operation, *given, **fields)

    return keeps
