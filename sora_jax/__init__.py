"""Video generation models as world simulators, in JAX and Flax.

pipeline = sora_jax.load()  # or a folder, such as runs/first
clip = pipeline.generate("a red circle moves left", frames=17, height=64, width=64)
clip.save("clip.mp4")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sora_jax.generation.clip import Clip
    from sora_jax.generation.loading import load
    from sora_jax.generation.pipeline import Pipeline

__version__ = "0.1.0"
__all__ = ["Clip", "Pipeline", "__version__", "load"]

_HOMES = {
    "Clip": "sora_jax.generation.clip",
    "Pipeline": "sora_jax.generation.pipeline",
    "load": "sora_jax.generation.loading",
}


def __getattr__(name: str) -> Any:
    # Lazily, so that loader workers, which import sora_jax.data, load no model code.
    if name not in _HOMES:
        raise AttributeError(f"module 'sora_jax' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
