"""One run as a value: an objective, its data, an optimiser, a mesh, and how often to do what."""

from __future__ import annotations

import dataclasses
from typing import Any

from sora_jax.parallel.mesh import Mesh
from sora_jax.training.optimizer import AdamW
from sora_jax.training.protocols import HOW_READ, Data, Evaluator, Objective

MAY_CHANGE = (
    "steps",
    "mesh",
    "meshes",
    "remat",
    "remats",
    "evaluators",
    "log_every",
    "save_every",
    "keep",
    "patience",
    "long_patience",
    "skips_allowed",
    # What is kept for the backward pass, and by what attention is computed.
    "objective.model.remat",
    "objective.model.attention",
    "objective.vae.remat",
    *HOW_READ,
)
"""Fields that a resumed run may change: they alter how it goes on, not what it is."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Train:
    """A stage that trains. `sora_jax.training.loop.run` carries it out."""

    name: str
    """Also the stage's folder below the run's."""
    objective: Objective
    data: Data
    optimizer: AdamW = AdamW()
    steps: int
    """Batches to take in all."""
    seed: int = 0
    start: str | None = None
    """Run or checkpoint whose averaged parameters this run begins with, such as one on smaller
    clips; of an objective with the same parameters. None begins anew."""
    accumulate: int = 1
    """Batches averaged into one update."""
    ema: float = 0.999
    """Decay of the average of the parameters, a step."""
    mesh: Mesh = Mesh()
    meshes: dict[str, Mesh] = dataclasses.field(default_factory=dict)
    """Meshes for TPU slices by their names, such as v6e:16x16; `mesh` is for all others. What the
    command line changes of `mesh` it changes of these."""
    remat: dict[str, str] = dataclasses.field(default_factory=dict)
    """Of buckets by their names, such as 81x320x640: what the model keeps there for the backward
    pass, where that is not what it says itself (`models.remat.Remat`)."""
    remats: dict[str, str] = dataclasses.field(default_factory=dict)
    """The same for all buckets on TPU slices, by their names: memory that is left over spares what
    would be computed again. Of no effect where the command line says what the model keeps."""
    evaluators: tuple[Evaluator, ...] = ()
    log_every: int = 20
    save_every: int = 500
    keep: int = 2
    """Newest checkpoints that are kept."""
    patience: float = 50.0
    """Seconds for which one of several processes waits for a step of the others at least."""
    long_patience: float = 3600.0
    """Seconds that the first two steps, and what is no step, may take several processes: restoring,
    compiling, measuring, saving."""
    skips_allowed: int = 20
    """Steps in a row without a finite gradient before the run stops."""

    def __post_init__(self) -> None:
        for field in ("steps", "accumulate", "log_every", "save_every", "keep"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field} is {getattr(self, field)}; it must be at least 1")
        if not self.name or "/" in self.name:
            raise ValueError(f"name is {self.name!r}; it must be usable as a folder's name")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed is {self.seed}; it must lie in 0..2^32 - 1")
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema is {self.ema}; it must lie in [0, 1)")

    def on(self, slice_name: str, count: int = 1) -> Train:
        """Returns the same run with the mesh for a slice, or for `count` of them together, and with
        what the model keeps there."""
        mesh = self.meshes.get(slice_name, self.mesh)
        if count > 1 and mesh.slices == 1:
            mesh = dataclasses.replace(mesh, slices=count)
        objective: Any = self.objective
        if slice_name in self.remats:
            objective = objective.rematerialised(self.remats[slice_name])
        return dataclasses.replace(self, mesh=mesh, objective=objective)

    def changed_from(self, before: Train) -> Train:
        """Returns the same run, in which what differs from `before` in the mesh, or in what the
        model keeps, has been changed for slices as well."""
        changed = {
            field.name: getattr(self.mesh, field.name)
            for field in dataclasses.fields(Mesh)
            if getattr(self.mesh, field.name) != getattr(before.mesh, field.name)
        }
        listed = {
            name: dataclasses.replace(mesh, **changed) if mesh == before.meshes.get(name) else mesh
            for name, mesh in self.meshes.items()
        }
        same = getattr(self.objective, "remat", None) == getattr(before.objective, "remat", None)
        return dataclasses.replace(self, meshes=listed, remats=self.remats if same else {})
