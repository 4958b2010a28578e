"""The programs of a run, one a bucket, all of them compiled before its first step.

So what is compiled is known before a device is busy, and no step waits for a compiler later on:
over thousands of hosts it is the slowest that counts. Programs are traced one after another and
compiled in threads; XLA lets go of the interpreter meanwhile.

What was compiled is kept (JAX's persistent cache, keyed by the program's content and the machine's
kind): a run that is gone on with, on the same or another host, reads it and compiles nothing.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import os
import platform
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import optax
from etils import epath

from sora_jax.arrays import Batch
from sora_jax.training.state import State, initializer, sharded
from sora_jax.training.step import training_step
from sora_jax.training.train import Train

log = logging.getLogger("sora_jax")

_FOUND = "/jax/compilation_cache/cache_hits"


def keep_in(folder: epath.PathLike, *, least: float = 1.0) -> None:
    """Keeps what is compiled from now on in a folder, local or gs://, if no other was chosen.

    `least` is the seconds that a program took to compile below which it is not kept. On CPUs each
    kind of processor has a folder within: what is compiled for one may not run on another.
    JAX_COMPILATION_CACHE_DIR chooses another, such as one for all runs. Several processes on CPUs
    keep nothing: there JAX keeps what the first one compiled, for that one alone, and programs that
    were read and programs that were compiled do not exchange in the same order.
    """
    on_cpu = jax.default_backend() == "cpu"
    if jax.distributed.is_initialized() and on_cpu:
        jax.config.update("jax_enable_compilation_cache", False)
        return
    if getattr(jax.config, "jax_compilation_cache_dir", None) is None:
        folder = epath.Path(folder) / (_processor() if on_cpu else "")
        jax.config.update("jax_compilation_cache_dir", os.fspath(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", least)


def of_user() -> Path:
    """Returns where programs are kept from one command of this user to the next."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sora_jax/programs"


def _processor() -> str:
    """A name for what this machine's processor can do."""
    told = Path("/proc/cpuinfo")
    lines = told.read_text().splitlines() if told.exists() else []
    known = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    digest = hashlib.sha256(f"{platform.machine()} {known}".encode()).hexdigest()
    return f"cpu-{digest[:12]}"


@dataclasses.dataclass(frozen=True)
class Prepared:
    """The step of a run, laid out on a mesh and not yet compiled.

    state    abstract, with shardings; `born` makes it.
    steps    for each bucket, jitted: (state, batch) -> (state, metrics).
    batches  for each bucket an abstract batch, with shardings.
    """

    state: State
    born: Callable[[], State]
    steps: Mapping[str, Any]
    batches: Mapping[str, Batch]

    @classmethod
    def of(cls, train: Train, batches: Mapping[str, Batch], devices: jax.sharding.Mesh) -> Prepared:
        """`batches` are abstract, of global shapes. Within `train.mesh.use(devices)`."""
        optimizer = train.optimizer.build(-(-train.steps // train.accumulate))
        if train.accumulate > 1:
            optimizer = optax.MultiSteps(optimizer, train.accumulate).gradient_transformation()
        smallest = min(batches.values(), key=lambda batch: batch.weight.shape[0])
        make = initializer(train.objective, optimizer, seed=train.seed, batch=smallest)
        state, born = sharded(make, train.mesh, devices)
        # What goes in goes on to the next step, so that it must come out as it went in.
        places = jax.tree.map(lambda leaf: leaf.sharding, state)

        def jitted(objective: Any) -> Any:
            step = training_step(
                objective,
                optimizer,
                seed=train.seed,
                ema=train.ema,
                accumulate=train.accumulate,
            )
            return jax.jit(step, donate_argnums=0, out_shardings=(places, None))

        plain = jitted(train.objective)
        steps = dict.fromkeys(batches, plain)
        for name, remat in train.remat.items():
            if name in steps:
                objective: Any = train.objective
                steps[name] = jitted(objective.rematerialised(remat))
        rows = train.mesh.batch_sharding(devices)

        def laid_out(leaf: Any) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=rows)

        return cls(
            state=state,
            born=born,
            steps=steps,
            batches={name: jax.tree.map(laid_out, batch) for name, batch in batches.items()},
        )


def compile_ahead(prepared: Prepared, *, name: str) -> dict[str, Callable[..., Any]]:
    """Returns the compiled program of each bucket.

    Says how many were compiled and how many were found in the cache.
    """
    began, steps, state = time.monotonic(), prepared.steps, prepared.state
    with _Counting() as counted:
        traced = {
            bucket: steps[bucket].lower(state, batch) for bucket, batch in prepared.batches.items()
        }
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            compiled = pool.map(lambda one: one.compile(), traced.values())
            programs = dict(zip(traced, compiled, strict=True))
    log.info(
        "%s: %d programs, one a bucket, in %.1f s: %d compiled, %d found in the cache",
        name,
        len(programs),
        time.monotonic() - began,
        len(programs) - counted.found,
        counted.found,
    )
    return programs


class _Counting:
    """How many programs were found in the cache while this was entered."""

    def __init__(self) -> None:
        self.found = 0
        self.lock = threading.Lock()

    def __enter__(self) -> _Counting:
        jax.monitoring.register_event_listener(self.heard)
        return self

    def __exit__(self, *error: Any) -> None:
        jax.monitoring.unregister_event_listener(self.heard)

    def heard(self, event: str, **_: Any) -> None:
        if event == _FOUND:
            with self.lock:
                self.found += 1
