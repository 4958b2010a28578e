"""`sora-jax compile`: what an experiment would be on a TPU slice, without the slice.

The very programs that training would run are compiled for it. From what XLA says come the bytes of
a chip and the exchanges between chips; from formulas, the operations; from the chip's published
peaks, the least time that each takes. The longest of these is what bounds the step: real ones are
slower, as nothing overlaps or reaches its peak entirely. (Between slices exchanges take longer than
is said here: all are reckoned at the rate of links within one.)
"""

from __future__ import annotations

import dataclasses
import logging
import math
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np

from sora_jax import config
from sora_jax.arrays import Batch, Size, Text
from sora_jax.data.buckets import Grid
from sora_jax.description import Boxes, boxes_of, costs_of, rematerialised
from sora_jax.meshes import guesses
from sora_jax.models import accounting
from sora_jax.models.remat import Remat
from sora_jax.objectives.autoencoding import Autoencoding
from sora_jax.objectives.denoising import Denoising
from sora_jax.objectives.levels import NoiseField
from sora_jax.parallel.hlo import Collective, collectives, dense, gathered, kernels
from sora_jax.parallel.mesh import Mesh, MeshError
from sora_jax.parallel.topology import Slice
from sora_jax.plans import Plan
from sora_jax.training.optimizer import stacked_kernels
from sora_jax.training.programs import Prepared
from sora_jax.training.train import Train

log = logging.getLogger("sora_jax")

_TRIED = 4
"""Meshes that a search compiles at most: formulas are not exact, and XLA takes minutes."""


def plans_for(
    stages: config.Stages, on: Slice, *, mesh: dict[str, int], buckets: Sequence[str] = ()
) -> list[Plan]:
    """Returns the plan of each bucket that an experiment trains on, on a slice.

    `mesh` changes axes of the mesh that the experiment lists for the slice; `buckets` names those
    that matter, none for all. Raises TopologyError, MeshError, or ValueError for a bucket that is
    not there.
    """
    devices, plans = on.devices(), []
    for stage, boxes in _trained(stages, buckets, (Denoising, Autoencoding)):
        train = stage.on(on.name, on.count)
        train = dataclasses.replace(train, mesh=dataclasses.replace(train.mesh, **mesh))
        plans += _plans(train, boxes, on, devices)
    return plans


def search(
    stages: config.Stages, on: Slice, *, buckets: Sequence[str] = ()
) -> tuple[list[Plan], list[Plan]]:
    """Returns the plans of each bucket of the transformers on the mesh that is fastest for the
    largest and fits.

    Meshes that all buckets can be dealt out on are tried in the order of what `meshes.guesses` says
    of them, the largest bucket first. Where none of the first few fits, the plan of the last is
    returned, which says by how much. Beside them, to compare with: those of the largest buckets
    with all devices along fsdp; and that is taken where it turns out to be no slower. Raises
    MeshError where no mesh can hold a bucket, and TopologyError; ValueError for several slices.
    """
    if on.count > 1:
        raise ValueError(f"--search deals out one slice, not {on.count}: give the axes of a mesh")
    devices, plans, compared = on.devices(), [], []
    for stage, boxes in _trained(stages, buckets, (Denoising,)):
        objective: Any = stage.objective
        size, rows = max(boxes, key=lambda box: math.prod(box[0]) * box[1])
        latent, about = guessed_from(stage, size, rows, on)
        found = [
            each
            for each in guesses(objective.model, latent, **about)
            if all(count % (each.mesh.data * each.mesh.fsdp) == 0 for _, count in boxes)
        ]
        if not found:
            raise MeshError(
                f"{stage.name}: by formulas no mesh of {on.name} holds {rows} clips of {size}: "
                "take a larger slice, or make the bucket's batch smaller"
            )
        plain = None
        if all(count % len(devices) == 0 for _, count in boxes):
            along = _with(stage, Mesh(data=1, fsdp=len(devices)), "full")
            (plain,) = _plans(along, ((size, rows),), on, devices)
            compared.append(plain)
        for guess in found[:_TRIED]:
            log.info("%s: trying %s %s: %s", stage.name, guess.mesh, guess.remat, guess.why)
            train = _with(stage, guess.mesh, guess.remat)
            (plan,) = _plans(train, ((size, rows),), on, devices)
            if plan.fits:
                break
        if plain and guess.remat != "full":
            # With what the search took as well: else its mesh might win by that alone.
            same = _with(stage, along.mesh, guess.remat)
            (other,) = _plans(same, ((size, rows),), on, devices)
            compared.append(other)
            if other.fits and not (plain.fits and plain.step_seconds <= other.step_seconds):
                along, plain = same, other
        if plain and plain.fits and not (plan.fits and plan.step_seconds < plain.step_seconds):
            train, plan = along, plain
        plans.append(plan)
        rest = tuple(box for box in boxes if box != (size, rows))
        plans += _plans(train, rest, on, devices)
    return plans, compared


def guessed_from(stage: Train, size: Size, rows: int, on: Slice) -> tuple[Size, dict[str, Any]]:
    """What `meshes.guess` is told of a transformer's bucket, beside its model: the latent, and what
    it takes by name."""
    objective: Any = stage.objective
    text = objective.text.positions(getattr(objective.text, "length", 1))
    about = {"rows": rows, "text": text, "moments": stage.optimizer.moment_bytes, "on": on}
    return _grid(objective).latent(size), about


def _trained(
    stages: config.Stages, buckets: Sequence[str], objectives: tuple[type, ...]
) -> list[tuple[Train, Boxes]]:
    """The stages that train with some objectives, with those of their buckets that are wanted."""
    known, notes = boxes_of(stages)
    for note in notes:
        log.warning("%s", note)
    found = {
        stage.name: (stage, known[stage.name])
        for stage in stages
        if isinstance(stage, Train) and isinstance(stage.objective, objectives)
    }
    names = {str(size) for _, boxes in found.values() for size, _ in boxes}
    if strange := set(buckets) - names:
        raise ValueError(
            f"no bucket {', '.join(sorted(strange))}: there are {', '.join(sorted(names))}"
        )
    wanted = set(buckets) or names
    asked = [
        (stage, tuple(box for box in boxes if str(box[0]) in wanted))
        for stage, boxes in found.values()
    ]
    return [(stage, boxes) for stage, boxes in asked if boxes]


def _with(train: Train, mesh: Mesh, remat: Remat) -> Train:
    objective: Any = train.objective
    changed = objective.rematerialised(remat)
    return dataclasses.replace(train, mesh=mesh, objective=changed, remat={})


def _grid(objective: Any) -> Grid:
    return Grid(factor=objective.factor, patch=Size(*objective.model.patch))


def _plans(train: Train, boxes: Boxes, on: Slice, there: Sequence[Any]) -> list[Plan]:
    """The plan of each bucket. They are traced one after another and compiled in threads."""
    devices = train.mesh.build(there)
    traced = [_traced(train, size, rows, on, devices) for size, rows in boxes]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(lambda one: one.compile(), traced))


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Traced:
    """One bucket's step, ready to be compiled; `known` is what is known of its plan before,
    `kernels` the shapes that those of all layers have together, `attended` how many tokens attend
    to one another, if any do, and `widths` the sides that parameters have."""

    known: dict[str, Any]
    lowered: Any
    kernels: frozenset[tuple[int, ...]]
    attended: int | None
    widths: frozenset[int]
    costs: Sequence[accounting.Cost]
    on: Slice

    def compile(self) -> Plan:
        began, known = time.monotonic(), self.known
        try:
            compiled = self.lowered.compile()
        except Exception as error:
            plan = Plan(
                **known,
                exchanged=(),
                kernels=(),
                seconds={},
                compiled_in=time.monotonic() - began,
                refused=_reason(error),
            )
        else:
            text = compiled.as_text()
            exchanged = tuple(collectives(text))
            needs = compiled.memory_analysis()
            # At its peak, which holds donated arguments once; those are told by kind.
            temporary = needs.peak_memory_in_bytes - needs.argument_size_in_bytes
            temporary += needs.generated_code_size_in_bytes
            plan = Plan(
                **known | {"bytes": known["bytes"] | {"temporary": temporary}},
                exchanged=exchanged,
                kernels=tuple(sorted(kernels(text))),
                seconds=_seconds(
                    self.on,
                    known["flops"] + known["recomputed"],
                    known["bytes"],
                    self.costs,
                    known["chips"],
                    exchanged,
                ),
                compiled_in=time.monotonic() - began,
                stacks=tuple(sorted(gathered(text) & self.kernels)),
                dense=tuple(sorted(dense(text, self.attended, widths=self.widths)))
                if self.attended
                else (),
            )
        log.info("%s %s: compiled in %.0f s", plan.stage, plan.bucket, plan.compiled_in)
        return plan


def _traced(train: Train, size: Size, rows: int, on: Slice, devices: Any) -> _Traced:
    objective = rematerialised(train, size)
    train.mesh.check_batch(rows, devices, bucket=str(size))
    with train.mesh.use(devices):
        prepared = Prepared.of(train, {str(size): _batch(train, size, rows)}, devices)
        (batch,) = prepared.batches.values()
        lowered = prepared.steps[str(size)].lower(prepared.state, batch)
        costs = costs_of(objective, size, rows)
    state = prepared.state
    axes = [f"{axis}={n}" for axis, n in devices.shape.items() if n > 1]
    known = {
        "stage": train.name,
        "bucket": str(size),
        "batch": rows,
        "tokens": costs[0].tokens,
        "chips": devices.size,
        "mesh": " ".join(axes) or "one chip",
        "remat": objective.remat,
        "hbm": on.chip.hbm,
        "flops": sum(cost.training_flops for cost in costs) / devices.size,
        "recomputed": sum(cost.recomputed for cost in costs) / devices.size,
        "bytes": {
            "parameters": _of_chip(state.params),
            "average": _of_chip(state.ema),
            "moments": _of_chip(state.moments),
            "batch": _of_chip(batch),
        },
    }
    return _Traced(
        known=known,
        lowered=lowered,
        kernels=_stacks(state.params),
        attended=costs[0].tokens // rows if isinstance(objective, Denoising) else None,
        widths=frozenset(side for leaf in jax.tree.leaves(state.params) for side in leaf.shape),
        costs=costs,
        on=on,
    )


def _stacks(params: Any) -> frozenset[tuple[int, ...]]:
    """The shapes of the kernels of all layers that devices share, but for what each computes by
    itself."""

    def shape(leaf: Any) -> tuple[int, ...]:
        spec = [*leaf.sharding.spec, *(None,) * leaf.ndim]
        mesh = leaf.sharding.mesh.shape
        return tuple(
            side // (mesh["tensor"] if "tensor" in np.ravel(axes or ()) else 1)
            for side, axes in zip(leaf.shape, spec, strict=False)
        )

    def shared(leaf: Any) -> bool:
        return leaf.sharding.shard_shape(leaf.shape) != shape(leaf)

    rules = jax.tree.leaves(stacked_kernels(params))
    leaves = jax.tree.leaves(params)
    return frozenset(
        shape(leaf)
        for leaf, rule in zip(leaves, rules, strict=True)
        if rule == "muon" and leaf.shape[0] > 1 and shared(leaf)
    )


def _seconds(
    on: Slice,
    flops: float,
    held: dict[str, int],
    costs: Sequence[accounting.Cost],
    chips: int,
    exchanged: tuple[Collective, ...],
) -> dict[str, float]:
    # The update reads and writes parameters, average and moments once; what is kept of the
    # activations is written once and read once, and so is what comes from other chips.
    update = 2 * (held["parameters"] + held["average"] + held["moments"])
    activations = 2 * sum(cost.kept_bytes + cost.working_bytes for cost in costs) / chips
    received = 2 * sum(each.sent for each in exchanged)
    return {
        "compute": flops / on.chip.flops,
        "memory": (update + activations + received) / on.chip.hbm_rate,
        "exchange": sum(on.seconds(each.kind, each.devices, each.sent) for each in exchanged),
    }


def _batch(train: Train, size: Size, rows: int) -> Batch:
    """An abstract batch of a bucket, as `Clips` or `LatentClips` would make it at its largest."""
    objective: Any = train.objective
    data: Any = train.data
    text = data.tokenizer.tokens([""]).tokens.shape[1]

    def array(*shape: int, kind: Any = np.float32) -> Any:
        return jax.ShapeDtypeStruct((rows, *shape), kind)

    fields: dict[str, Any] = {"latent": None}
    if isinstance(objective, Autoencoding):
        fields |= {"video": array(*size, 3, kind=np.uint8)}
    else:
        latent = _grid(objective).latent(size)
        fields |= {"video": None, "latent": array(*latent, objective.channels)}
        if isinstance(objective.levels, NoiseField):
            fields |= {
                "spans": fields["latent"],
                "spanned": array(latent.frames, kind=np.bool_),
            }
    return Batch(
        **fields,
        extent=array(3, kind=np.int32),
        text=Text(tokens=array(text, kind=np.int32), length=array(kind=np.int32)),
        weight=array(),
    )


def _of_chip(tree: Any) -> int:
    """Bytes of the part of a tree of abstract arrays that one device holds."""

    def part(leaf: Any) -> int:
        return math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize

    return sum(part(leaf) for leaf in jax.tree.leaves(tree))


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return next((line for line in lines if "hbm" in line.lower()), lines[0] if lines else "")[:300]
