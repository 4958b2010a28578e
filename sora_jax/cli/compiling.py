"""The command that compiles for hardware that is not there."""

from __future__ import annotations

import sys

import tyro
from etils import epath


def compile(
    experiment: tyro.conf.Positional[str],
    *,
    topology: str,
    slices: int = 1,
    data: int | None = None,
    fsdp: int | None = None,
    sequence: int | None = None,
    tensor: int | None = None,
    json_out: str | None = None,
) -> None:
    """Compile an experiment's training steps for a TPU slice, with no TPU: what fits, what bounds.

    Needs pip install "jax[tpu]". Ends with code 1 if the step of a bucket does not fit.

    Args:
        experiment: a Python file that binds `experiment`.
        topology: the slice: the chip and its sides, such as v5e:4x4, v6e:16x16 or v5p:4x4x4.
        slices: how many of them, joined by the data centre's network.
        data: devices along this axis of the mesh; by default as the file says for this slice.
        fsdp: the same.
        sequence: the same.
        tensor: the same.
        json_out: a file to write the table to as JSON.
    """
    import jax

    # Else start-up would look for a TPU of this machine.
    jax.config.update("jax_platforms", "cpu")
    from sora_jax.compilation import plans_for, render, to_json
    from sora_jax.data.video import check_folder
    from sora_jax.parallel.topology import Slice

    if json_out:
        check_folder(json_out)
    axes = {"slices": slices if slices > 1 else None, "data": data, "fsdp": fsdp}
    axes |= {"sequence": sequence, "tensor": tensor}
    mesh = {axis: size for axis, size in axes.items() if size is not None}
    plans = plans_for(experiment, Slice(topology, slices), mesh=mesh)
    if not plans:
        raise ValueError(f"{experiment} trains no transformer whose buckets are known")
    print(render(plans))
    if json_out:
        epath.Path(json_out).write_text(to_json(plans))
    if not all(plan.fits for plan in plans):
        sys.exit(1)
