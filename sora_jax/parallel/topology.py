"""TPU slices that one does not own: their devices, to compile for, and what their chips can do.

With `pip install "jax[tpu]"` XLA compiles for a slice on any machine, by the slice's name, such as
v6e:16x16. Peaks are those that docs.cloud.google.com/tpu/docs publishes for a chip (in 2026; of v6e
it has published other figures before).
"""

from __future__ import annotations

import dataclasses
import math
import os
import re
from collections.abc import Sequence
from typing import Any


class TopologyError(ValueError):
    """There is no such slice, or nothing that compiles for it; the message says what to do."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chip:
    """Published peaks of one chip.

    flops        of bfloat16 products, a second.
    hbm          bytes of memory; hbm_rate, bytes a second.
    ici_rate     bytes a second over all links to its neighbours, one way; links, how many.
    accelerator  the chip's name in the cloud's accelerator types.
    """

    flops: float
    hbm: int
    hbm_rate: float
    ici_rate: float
    links: int
    accelerator: str


CHIPS = {
    "v4": Chip(
        flops=275e12,
        hbm=32 * 2**30,
        hbm_rate=1228e9,
        ici_rate=300e9,
        links=6,
        accelerator="v4",
    ),
    "v5e": Chip(
        flops=197e12,
        hbm=16 * 2**30,
        hbm_rate=819e9,
        ici_rate=200e9,
        links=4,
        accelerator="v5litepod",
    ),
    "v5p": Chip(
        flops=459e12,
        hbm=95 * 2**30,
        hbm_rate=2765e9,
        ici_rate=600e9,
        links=6,
        accelerator="v5p",
    ),
    "v6e": Chip(
        flops=918e12,
        hbm=32 * 2**30,
        hbm_rate=1638e9,
        ici_rate=400e9,
        links=4,
        accelerator="v6e",
    ),
}
"""By the word that begins the name of a slice."""

_FLAGS = (
    # Parameters are gathered and gradients scattered layer by layer: beside products, with these.
    "--xla_tpu_enable_async_collective_fusion=true",
    "--xla_tpu_enable_async_collective_fusion_fuse_all_gather=true",
    "--xla_tpu_enable_async_collective_fusion_multiple_steps=true",
    "--xla_tpu_overlap_compute_collective_tc=true",
    "--xla_enable_async_all_gather=true",
    # The exchanges of heads for tokens, two before and one after each attention.
    "--xla_tpu_enable_async_all_to_all=true",
    # Those of ring attention.
    "--xla_enable_async_collective_permute=true",
)
"""Of the TPU compiler, for v5e, v5p and v6e. Measure before adding others: a set for one chip has
been seen to hang another."""


def set_flags() -> None:
    """Has libtpu, which is loaded with the first device, take the flags above; those that
    LIBTPU_INIT_ARGS holds already come after them, and win."""
    given = os.environ.get("LIBTPU_INIT_ARGS", "")
    if _FLAGS[0] not in given:
        os.environ["LIBTPU_INIT_ARGS"] = " ".join((*_FLAGS, given)).strip()


_NAME = re.compile(r"(?P<chip>[a-z0-9]+):(?P<sides>\d+(x\d+){1,2})")


@dataclasses.dataclass(frozen=True)
class Slice:
    """A TPU slice, or several of the same kind joined by the data centre's network.

    name    the chip and how many lie along each side, such as v5p:4x4x4.
    """

    name: str
    count: int = 1

    def __post_init__(self) -> None:
        match = _NAME.fullmatch(self.name)
        if match is None or match["chip"] not in CHIPS:
            raise TopologyError(
                f"there is no TPU slice {self.name!r}: give the chip ({', '.join(CHIPS)}) and its "
                "sides, such as v6e:16x16 or v5p:4x4x4"
            )

    @property
    def chip(self) -> Chip:
        return CHIPS[self.name.partition(":")[0]]

    @property
    def sides(self) -> tuple[int, ...]:
        return tuple(int(side) for side in self.name.partition(":")[2].split("x"))

    def seconds(self, kind: str, devices: int, sent: float) -> float:
        """Returns the least time of an exchange among `devices` in which each sends so many bytes.

        kind  all-gather, all-reduce, reduce-scatter, all-to-all or collective-permute, as XLA has
              them.

        A chip has two links along each side of the torus, and those of the sides that so many
        devices span at least serve them. Sums and gathered parts go from neighbour to neighbour,
        all ways at once. What each sends to each goes a quarter of each side far on average; what
        goes to one neighbour alone has one link.
        """
        spanned = self._spanned(devices)
        links, far = 2 * len(spanned), 1.0
        if kind == "all-to-all":
            far = max(1.0, sum(spanned) / 4 * devices / max(1, devices - 1))
        if kind == "collective-permute":
            links = 1
        return sent * far / (links * self.chip.ici_rate / self.chip.links)

    def _spanned(self, devices: int) -> list[int]:
        """How many of so many devices lie along each side of the torus that they need."""
        spanned, left = [], devices
        for side in sorted(self.sides, reverse=True):
            if left > 1 or not spanned:
                spanned.append(min(side, left))
                left = math.ceil(left / side)
        return spanned

    def devices(self) -> Sequence[Any]:
        """Returns devices to compile for. Raises TopologyError where that cannot be done here."""
        set_flags()
        for name, value in {
            "TPU_SKIP_MDS_QUERY": "1",
            "TPU_WORKER_HOSTNAMES": "localhost",
            "TPU_ACCELERATOR_TYPE": f"{self.chip.accelerator}-4",
            "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
        }.items():
            # Without these libtpu asks the cloud's metadata server, and waits; and refuses to be
            # loaded by two processes, though none of them uses a chip.
            os.environ.setdefault(name, value)
        from jax.experimental import topologies

        settings = {} if self.count == 1 else {"num_slices": self.count}
        try:
            described = topologies.get_topology_desc(
                platform="tpu", topology_name=self.name, **settings
            )
        except Exception as error:
            first = str(error).strip().split("\n")[0][:200]
            raise TopologyError(
                f"cannot compile for {self.name} ({first}); it needs libtpu (pip install "
                '"jax[tpu]"), and sides that the chip is built in'
            ) from error
        return described.devices


def slice_of(devices: Sequence[Any]) -> Slice | None:
    """Returns the slice that real devices make up, None where they are no TPUs or not known."""
    kinds = {"TPU v4": "v4", "TPU v5 lite": "v5e", "TPU v5": "v5p", "TPU v6 lite": "v6e"}
    chip = kinds.get(devices[0].device_kind)
    if chip is None:
        return None
    places: list[Any] = [getattr(device, "coords", (0, 0, 0)) for device in devices]
    sides = [1 + max(place[axis] for place in places) for axis in range(3)]
    count = len({getattr(device, "slice_index", 0) for device in devices})
    kept = sides if CHIPS[chip].links == 6 else sides[:2]
    return Slice(f"{chip}:{'x'.join(map(str, kept))}", count)
