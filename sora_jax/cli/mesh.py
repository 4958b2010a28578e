"""The flags that name a mesh."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeshFlags:
    """Devices along each axis of a mesh."""

    data: int | None = None
    """Devices that share the rows of a batch, or the estimates that guidance makes."""
    fsdp: int | None = None
    """Devices that share these and the parameters."""
    sequence: int | None = None
    """Devices that share the tokens of a clip."""
    tensor: int | None = None
    """Devices that share the heads and the MLP."""

    @property
    def axes(self) -> dict[str, int]:
        """Those that were given."""
        axes = {axis: getattr(self, axis) for axis in ("data", "fsdp", "sequence", "tensor")}
        return {axis: size for axis, size in axes.items() if size is not None}
