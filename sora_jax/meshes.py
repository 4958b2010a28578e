"""Which mesh and which rematerialisation suit a model, a bucket and a slice: by formulas.

For every way to deal the chips out, the bytes of a chip and the least seconds of a step are
modelled; `sora-jax compile --search` compiles the best of them until one fits. With n the devices
along an axis, a collective of b bytes among them sends b (n - 1) / n from each.

    parameters  gathered in 16 bits over fsdp x sequence in each pass, their gradients scattered
                back in 32 bits, and summed over data
    sequence    four all-to-alls of a layer's queries, keys, values and outputs, in each pass
    tensor      two sums of a layer's outputs, in each pass
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator
from typing import Any

from sora_jax.arrays import Size
from sora_jax.models import accounting
from sora_jax.models.accounting.cost import bytes_of
from sora_jax.models.dit import DiT
from sora_jax.models.remat import Remat
from sora_jax.parallel.mesh import Mesh
from sora_jax.parallel.topology import Slice

_ROOM, _NEAR = 0.9, 1.25
"""The part of a chip's memory that formulas may fill, as they are not exact; and up to which it is
worth to ask XLA where nothing is below that."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Guess:
    """A mesh with what it is modelled to take; `seconds` by compute, memory and exchange."""

    mesh: Mesh
    remat: Remat
    bytes: float
    seconds: dict[str, float]

    @property
    def step(self) -> float:
        """The longest of the three; of two meshes alike in it, the one that does less is better."""
        return max(self.seconds.values()) + 0.01 * sum(self.seconds.values())

    @property
    def why(self) -> str:
        parts = ", ".join(f"{name} {1000 * value:,.0f} ms" for name, value in self.seconds.items())
        return f"{parts}; {self.bytes / 2**30:.1f} GiB"


# To the memory of the host, whose speed no table tells, where nothing else fits.
_REMATS: tuple[Remat, ...] = ("none", "save_attention", "full", "offload")


def guesses(
    model: DiT, latent: Size, *, rows: int, text: int, moments: int, on: Slice
) -> list[Guess]:
    """Returns all meshes that a bucket can be dealt out on and that may fit, the fastest first.

    Where by formulas none fits, those that are too large by little, the smallest first.

    latent, rows, text  of the bucket: places of the latent, clips, text positions.
    moments             bytes that the optimiser keeps of each parameter.
    on                  one slice.
    """
    chip = on.chip
    found = [
        guess(model, latent, mesh=mesh, remat=remat, rows=rows, text=text, moments=moments, on=on)
        for mesh in _meshes(model, latent, rows=rows, chips=math.prod(on.sides))
        for remat in _REMATS
    ]
    fitting = [g for g in found if g.bytes <= _ROOM * chip.hbm and g.remat != "offload"]
    near = [g for g in found if g.bytes <= _NEAR * chip.hbm]
    return sorted(fitting, key=lambda g: g.step) or sorted(near, key=lambda g: (g.bytes, g.step))


def guess(
    model: DiT,
    latent: Size,
    *,
    mesh: Mesh,
    remat: Remat,
    rows: int,
    text: int,
    moments: int,
    on: Slice,
) -> Guess:
    """Returns what one mesh is modelled to take."""
    d, f, s, t = mesh.data, mesh.fsdp, mesh.sequence, mesh.tensor
    changed: Any = model.clone(remat=remat)
    cost = accounting.transformer(changed, latent, text=text, batch=rows)
    parameters, width = cost.parameters, bytes_of(model.dtype)
    # The parameters and their average in 32 bits, and the moments.
    held = (8 + moments) * parameters / (f * s * t)
    activations = (cost.kept_bytes + 2 * cost.working_bytes) / (d * f * s * t)
    passes = 2 if remat == "none" else 3

    def share(n: int) -> float:
        return (n - 1) / n

    tokens = cost.tokens / (d * f * s) * model.width * width
    exchanged = (
        ("all-gather", f * s, (passes * width + 4) * parameters / t * share(f * s)),
        ("all-reduce", d, 2 * 4 * parameters / (f * s * t) * share(d)),
        ("all-reduce", t, model.depth * passes * 2 * 2 * tokens * share(t)),
        ("all-to-all", s, model.depth * passes * 4 * tokens / t * share(s)),
    )
    sent = sum(each for _, _, each in exchanged)
    return Guess(
        mesh=mesh,
        remat=remat,
        bytes=held + activations + 2 * 4 * parameters / (f * s * t),
        seconds={
            "compute": (cost.training_flops + cost.recomputed) / (d * f * s * t) / on.chip.flops,
            "memory": 2 * (held + activations + sent) / on.chip.hbm_rate,
            "exchange": sum(on.seconds(*each) for each in exchanged),
        },
    )


def _meshes(model: DiT, latent: Size, *, rows: int, chips: int) -> Iterator[Mesh]:
    """All ways to deal `chips` out so that rows, heads and the MLP divide: where heads do not,
    tokens go round in a ring, which computes without the chip's kernel, slower than is modelled."""
    divisors = [n for n in range(1, chips + 1) if chips % n == 0]
    for f, s, t in itertools.product(divisors, repeat=3):
        d = chips // (f * s * t) if chips % (f * s * t) == 0 else 0
        if not d or rows % (d * f) or model.heads % (s * t) or model.mlp % t:
            continue
        tokens = math.prod(-(-n // p) for n, p in zip(latent, model.patch, strict=True))
        if tokens % s == 0:
            yield Mesh(data=d, fsdp=f, sequence=s, tensor=t)
