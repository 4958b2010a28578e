"""The command that compiles for hardware that is not there."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from typing import Annotated

import tyro
from etils import epath

from sora_jax.cli.mesh import MeshFlags


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompileFlags(MeshFlags):
    """Compiles an experiment's training steps for a TPU slice, with no TPU: what fits, what bounds.

    The mesh is that which the file lists for the slice, but for the axes that are given here.
    Needs pip install "jax[tpu]". Ends with code 1 if the step of a bucket does not fit. Further
    flags change the experiment's own fields, as those of `sora-jax train` do.
    """

    experiment: tyro.conf.Positional[str]
    """A Python file that binds `experiment`."""
    topology: str
    """The slice: the chip and its sides, such as v5e:4x4, v6e:16x16 or v5p:4x4x4."""
    slices: int = 1
    """How many of them, joined by the data centre's network."""
    search: bool = False
    """Look for the mesh and the rematerialisation that take the least time, and compile those
    beside all devices along fsdp."""
    json_out: str | None = None
    """A file to write the table to as JSON."""

    @property
    def mesh(self) -> dict[str, int]:
        return self.axes | ({"slices": self.slices} if self.slices > 1 else {})


def compile(arguments: Annotated[Sequence[str], tyro.conf.arg(metavar="...")] = ()) -> None:
    """Compile an experiment for a TPU slice, with no TPU: `sora-jax compile FILE --topology ...`"""
    import jax

    # Else start-up would look for a TPU of this machine.
    jax.config.update("jax_platforms", "cpu")
    from sora_jax import config
    from sora_jax.compilation import plans_for, render, search, to_json
    from sora_jax.data.video import check_folder
    from sora_jax.parallel.topology import Slice

    flags, unknown = tyro.cli(
        CompileFlags, prog="sora-jax compile", args=list(arguments), return_unknown_args=True
    )
    stages = config.read_experiment(flags.experiment)
    stages = config.override(stages, unknown, program="sora-jax compile EXPERIMENT")
    if flags.json_out:
        check_folder(flags.json_out)
    if flags.search and flags.mesh.keys() - {"slices"}:
        raise ValueError("--search looks for a mesh; give it, or the axes of one")
    on = Slice(flags.topology, flags.slices)
    compared = []
    if flags.search:
        plans, compared = search(stages, on)
    else:
        plans = plans_for(stages, on, mesh=flags.mesh)
    if not plans:
        raise ValueError(f"{flags.experiment} trains no transformer whose buckets are known")
    print(render([*compared, *plans]))
    if flags.json_out:
        epath.Path(flags.json_out).write_text(to_json([*compared, *plans]))
    if not all(plan.fits for plan in plans):
        sys.exit(1)
