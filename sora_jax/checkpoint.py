"""What is kept of a run that trains: checkpoints by orbax.

A run's folder holds `checkpoints/<step>/` with the items

    experiment  the JSON form of the experiment that trained it
    params      the parameters, float32
    ema         their exponential moving average, which sampling uses
    moments     the state of the optimiser and the counters of the loop
    data        the position of the data

and one folder for every frozen model that the run depends on (see `frozen`). A checkpoint is whole
as orbax says: its folder is renamed, or marked on gs://, when all of it is there. Local paths and
gs:// alike.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from etils.epath import backend
from flax import traverse_util
from jax.experimental import multihost_utils

from sora_jax import config
from sora_jax.arrays import Batch
from sora_jax.files import is_remote

log = logging.getLogger("sora_jax")

CHECKPOINTS = "checkpoints"


class CheckpointError(Exception):
    """A checkpoint is missing, damaged or of another experiment; the message names its path."""


def located(folder: epath.PathLike) -> epath.Path:
    """Returns a folder's full path, which orbax needs; gs:// paths are so already."""
    path = epath.Path(folder).expanduser()
    return path if is_remote(path) else path.absolute()


def _forget_listing(folder: epath.Path) -> None:
    """Has a remote folder be listed anew, which other processes may have changed: fsspec keeps what
    it once listed. (Without the package for a bucket, files are TensorFlow's, which forget.)"""
    with contextlib.suppress(ImportError):
        backend.fsspec_backend.fs(folder).invalidate_cache()


class DamagedError(CheckpointError):
    """A checkpoint, or a part of it, cannot be read."""


def _never(step: int) -> bool:
    del step
    return False


class Checkpoints:
    """The training checkpoints of one run: asynchronous, atomic, the newest `keep` kept.

    `folder` is the run's folder. A checkpoint that cannot be written costs no more than itself: it
    is told of, and those before it stay. (Among several processes one that cannot even begin to
    write has to end: the others wait for it.)
    """

    def __init__(self, folder: epath.PathLike, *, keep: int = 3):
        self.folder = located(folder) / CHECKPOINTS
        self.folder.mkdir(parents=True, exist_ok=True)
        self._manager = ocp.CheckpointManager(
            self.folder,
            options=ocp.CheckpointManagerOptions(
                max_to_keep=keep, create=True, cleanup_tmp_directories=True
            ),
        )
        # It would ask JAX for a notice by the step's number, from a thread too, and so put out the
        # count on which all processes agree when to stop (`training.preemption`).
        self._manager.reached_preemption = _never
        self._begun: int | None = None
        self._failed: set[int] = set()

    def latest(self) -> int | None:
        """Step of the newest whole checkpoint."""
        return max(self.steps(), default=None)

    def steps(self) -> list[int]:
        """Steps of the whole checkpoints, the newest first."""
        return sorted(self._manager.all_steps(), reverse=True)

    def there(self, step: int) -> bool:
        """Whether this process finds checkpoint `step` in the folder."""
        return (self.folder / str(step)).exists()

    def set_aside(self, step: int) -> None:
        """Renames checkpoint `step`, so that it is none of them any longer."""
        if jax.process_index() == 0:
            names = (f"damaged-{step}{again}" for again in ("", *(f"-{n}" for n in range(1, 100))))
            free = next(name for name in names if not (self.folder / name).exists())
            try:
                (self.folder / str(step)).rename(self.folder / free)
            except OSError as error:
                log.error("%s cannot be renamed: %s", self.folder / str(step), error)
        multihost_utils.sync_global_devices(f"checkpoint {step} is set aside")
        _forget_listing(self.folder)
        self._manager.reload()

    def save(self, step: int, *, trees: Mapping[str, Any], records: Mapping[str, Any]) -> None:
        """Starts to write checkpoint `step` (finished in the background; see `wait`)."""
        items = {name: ocp.args.StandardSave(tree) for name, tree in trees.items()}
        items |= {name: ocp.args.JsonSave(record) for name, record in records.items()}
        self.wait()
        with self._survived(step, among=jax.process_count()):
            self._manager.save(step, args=ocp.args.Composite(**items), force=True)
        self._begun = step

    def restore(self, step: int, *, trees: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the arrays of checkpoint `step`, placed as the abstract `trees` say.

        Raises DamagedError where a file of it is missing or damaged.
        """
        # Each process by itself: one that fails must not leave others waiting for it.
        folder = self.folder / str(step)
        return {name: read_params(folder, tree, item=name) for name, tree in trees.items()}

    def record(self, step: int, name: str) -> Any:
        """Returns the JSON item `name` of checkpoint `step`."""
        return read_record(self.folder / str(step), name)

    def wait(self) -> None:
        """Returns when all that was begun to be saved is on disk, or has failed."""
        with self._survived(self._begun):
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits and lets go of the folder."""
        self.wait()
        with self._survived(self._begun):  # of several items that fail, closing raises the next
            self._manager.close()
        self._clear_away()

    @contextlib.contextmanager
    def _survived(self, step: int | None, *, among: int = 1) -> Iterator[None]:
        """What keeps checkpoint `step` from being written is told of, and goes no further.

        But for what one `among` several does that they do together, which raises CheckpointError.
        """
        try:
            yield
        except Exception as error:
            if among > 1:
                raise CheckpointError(
                    f"checkpoint {self.folder / str(step)} cannot be begun ({_first_line(error)}), "
                    "and the other processes wait for it: make room, or mend the folder, and start "
                    "again"
                ) from error
            left: Any = "not known"
            if step is not None:
                self._failed.add(step)
            self._clear_away()
            with contextlib.suppress(Exception):  # a folder that cannot even be listed
                self._manager.reload()
                left = self.latest()
            log.error(
                "checkpoint %s cannot be written (%s); step to go on from: %s",
                self.folder / str(step),
                _first_line(error),
                left,
            )

    def _clear_away(self) -> None:
        """Removes what there is of checkpoints that cannot be written.

        Where one item has failed orbax may still be writing another, so that this is done again
        when it has let go of the folder.
        """
        if jax.process_index() != 0:
            return
        for step in self._failed:
            with contextlib.suppress(OSError):
                for part in self.folder.glob(f"{step}.orbax-checkpoint-tmp*"):
                    part.rmtree(missing_ok=True)


def _alone() -> ocp.options.MultiprocessingOptions:
    """For what each process reads by itself: none waits for another."""
    own = jax.process_index()
    return ocp.options.MultiprocessingOptions(
        primary_host=own, active_processes={own}, barrier_sync_key_prefix=f"process{own}"
    )


def damaged(path: epath.Path, error: Exception) -> DamagedError:
    """The error for a checkpoint that cannot be read."""
    return DamagedError(
        f"checkpoint {path} cannot be read ({_first_line(error)}); it is damaged or was not copied "
        "whole"
    )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300] if lines else ''}"


def read_record(step_folder: epath.Path, name: str) -> Any:
    """Returns the JSON item `name` of the checkpoint in `step_folder`."""
    try:
        with ocp.Checkpointer(
            ocp.JsonCheckpointHandler(), multiprocessing_options=_alone()
        ) as reader:
            return reader.restore(step_folder / name)
    except Exception as error:
        raise damaged(step_folder, error) from error


def read_experiment(step_folder: epath.Path) -> Any:
    """Returns the value that the checkpoint in `step_folder` was trained by.

    `{out}` in it stands for where the run lies now: OUT/STAGE/checkpoints/STEP.
    """
    try:
        value = config.from_json(read_record(step_folder, "experiment"))
        return config.place(value, out=str(step_folder.parent.parent.parent))
    except config.ConfigError as error:
        raise CheckpointError(f"{step_folder / 'experiment'}: {error}") from error


def abstract(objective: Any, batch: Batch, *, shardings: Callable[[Any], Any] | None = None) -> Any:
    """Returns the shapes of an objective's parameters, on this process's first device.

    `batch` gives the shapes that the parameters depend on: channels, and the length of texts.
    `shardings` says of an abstract tree, with Linen's axis names, where its arrays lie instead.
    """
    boxed = jax.eval_shape(objective.init, jax.random.key(0), batch)
    shapes = nn.unbox(boxed)
    one = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    places = jax.tree.map(lambda _: one, shapes) if shardings is None else shardings(boxed)
    return jax.tree.map(
        lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place),
        shapes,
        places,
    )


def newest(folder: epath.PathLike) -> epath.Path:
    """Returns the folder of the newest whole checkpoint of a run (or `folder`, if it is one).

    Raises CheckpointError where there is none.
    """
    path = located(folder)
    if (path / "experiment").exists():
        return path
    steps = path / CHECKPOINTS
    if not steps.exists():
        raise CheckpointError(
            f"{path} holds no checkpoints/ folder: it is no run of sora-jax train"
        )
    _forget_listing(steps)
    whole = [child for child in steps.iterdir() if child.name.isdigit() and _finished(child)]
    if not whole:
        raise CheckpointError(f"{steps} holds no finished checkpoint yet")
    return max(whole, key=lambda child: int(child.name))


def _finished(step_folder: epath.Path) -> bool:
    # Where folders cannot be renamed, as on gs://, orbax marks what is whole by a file.
    return (step_folder / "experiment").exists() and ocp.utils.is_checkpoint_finalized(step_folder)


def read_params(step_folder: epath.Path, abstract: Any, *, item: str = "ema") -> Any:
    """Returns the parameters `item` of one checkpoint, and nothing else of it.

    `abstract` is a tree of `jax.ShapeDtypeStruct` (with shardings, where several devices share
    the parameters). Raises CheckpointError if the tree or a shape differs, or a file is damaged.
    """
    try:
        with ocp.StandardCheckpointer(multiprocessing_options=_alone()) as reader:
            return reader.restore(step_folder / item, target=abstract)
    except Exception as error:
        if "RESOURCE_EXHAUSTED" in str(error):
            raise CheckpointError(
                f"{step_folder / item} does not fit these devices ({_first_line(error)}); take "
                "more of them, or a mesh that shares it among more (--mesh.fsdp)"
            ) from error
        raise damaged(step_folder, error) from error


def nonfinite(params: Any) -> list[str]:
    """Names of the parameters that hold a NaN or an infinity."""
    flat: Any = traverse_util.flatten_dict(params, sep="/")
    # What lies on the host is looked at there: for a device each shape would be compiled.
    return [
        name
        for name, array in flat.items()
        if not bool((np if isinstance(array, np.ndarray) else jnp).isfinite(array).all())
    ]
