"""The command that compiles for hardware that is not there."""

from __future__ import annotations

import dataclasses
import io
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import tyro
from etils import epath
from rich.console import Console
from rich.table import Table

from sora_jax.cli.mesh import MeshFlags

if TYPE_CHECKING:
    from sora_jax.plans import Plan


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
    buckets: tuple[str, ...] = ()
    """Only these, such as 81x480x832; otherwise all of them."""
    search: bool = False
    """Look for the mesh and the rematerialisation with which the transformer takes the least time,
    and compile those beside all devices along fsdp."""
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
    from sora_jax.compilation import plans_for, search
    from sora_jax.data.video import check_folder
    from sora_jax.parallel.topology import Slice
    from sora_jax.stages import override

    flags, unknown = tyro.cli(
        CompileFlags, prog="sora-jax compile", args=list(arguments), return_unknown_args=True
    )
    stages = config.read_experiment(flags.experiment)
    stages = override(stages, unknown, program="sora-jax compile EXPERIMENT")
    if flags.json_out:
        check_folder(flags.json_out)
    if flags.search and flags.mesh.keys() - {"slices"}:
        raise ValueError("--search looks for a mesh; give it, or the axes of one")
    on = Slice(flags.topology, flags.slices)
    compared = []
    if flags.search:
        plans, compared = search(stages, on, buckets=flags.buckets)
    else:
        plans = plans_for(stages, on, mesh=flags.mesh, buckets=flags.buckets)
    if not plans:
        raise ValueError(f"{flags.experiment} trains nothing whose buckets are known")
    print(render([*compared, *plans]))
    if flags.json_out:
        epath.Path(flags.json_out).write_text(to_json([*compared, *plans]))
    if not all(plan.fits for plan in plans):
        sys.exit(1)


def render(plans: Sequence[Plan]) -> str:
    """Returns the plans as tables."""
    console = Console(file=io.StringIO(), width=140, highlight=False)
    table = Table(title="a training step of one chip", title_justify="left")
    names = ("bucket", "batch", "mesh", "remat", "state GiB", "temporary GiB", "of HBM", "PFLOP")
    for name in (*names, "compute ms", "memory ms", "exchange ms", "tokens/s", "MFU at most"):
        table.add_column(name, justify="left" if name in ("bucket", "mesh", "remat") else "right")
    for plan in plans:
        state = plan.peak - plan.bytes.get("temporary", 0)
        times = [f"{1000 * plan.seconds.get(n, 0):,.0f}" for n in ("compute", "memory", "exchange")]
        table.add_row(
            plan.bucket,
            str(plan.batch),
            plan.mesh,
            plan.remat,
            f"{state / 2**30:.2f}",
            f"{plan.bytes.get('temporary', 0) / 2**30:.2f}",
            f"{plan.peak / plan.hbm:.0%}" if not plan.refused else "too much",
            f"{plan.flops / 1e15:.3f}",
            *times,
            f"{plan.tokens_per_second:,.0f}" if plan.seconds else "",
            f"{plan.utilisation:.0%} ({plan.bound})" if plan.seconds else "",
        )
    console.print(table)
    for plan in plans:
        if not plan.fits:
            console.print(f"{plan.bucket} {remedy(plan)}", markup=False)
        if plan.refused:
            console.print(f"  {plan.refused}", markup=False)
            continue
        kinds = ", ".join(f"{kind} {held / 2**30:.2f}" for kind, held in plan.bytes.items())
        console.print(f"{plan.bucket}: GiB of a chip: {kinds}", markup=False)
        sent = ", ".join(
            f"{each.kind} among {each.devices}: {each.sent / 2**30:.2f} GiB in {each.times}"
            for each in plan.exchanged[:5]
        )
        console.print(f"  sends {sent or 'nothing'}", markup=False)
        console.print(f"  kernels: {', '.join(plan.kernels) or 'plain XLA'}", markup=False)
        if plan.stacks:
            stacks = ", ".join(str(list(shape)) for shape in plan.stacks)
            console.print(f"  kernels of all layers gathered at once: {stacks}", markup=False)
        if plan.dense:
            pairs = ", ".join(str(list(shape)) for shape in plan.dense)
            console.print(
                f"  attention with a number for each pair of tokens: {pairs}", markup=False
            )
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def remedy(plan: Plan) -> str:
    """Returns what is wrong with a plan that does not fit, and what to change."""
    full = ("hbm", "out of memory", "resource_exhausted")
    if plan.refused and not any(word in plan.refused.lower() for word in full):
        return "does not compile, and not for want of memory:"
    if plan.peak - plan.bytes.get("temporary", 0) > plan.hbm // 2:
        return (
            "does not fit: parameters and moments take most of a chip: raise --fsdp, or take a "
            "larger slice"
        )
    many = "does not fit: the activations are too many:"
    if plan.remat == "blocks":
        return f"{many} raise --fsdp, or make the bucket's batch smaller"
    if plan.remat not in ("full", "offload"):
        return (
            f"{many} set the model's remat to full (that of an autoencoder to blocks), or raise "
            "--sequence"
        )
    return (
        f"{many} raise --sequence, make the bucket's batch smaller, or set the model's remat to "
        "offload"
    )


def to_json(plans: Sequence[Plan]) -> str:
    """Returns them as JSON."""
    rows = [
        dataclasses.asdict(plan)
        | {
            "exchanged": [each._asdict() for each in plan.exchanged],
            "fits": plan.fits,
            "bound": plan.bound,
        }
        for plan in plans
    ]
    return json.dumps(rows, indent=1)
