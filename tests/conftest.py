"""Settings of every test: eight virtual CPU devices, and strict ranks."""

from __future__ import annotations

import os

# Before JAX is imported: with libtpu installed, start-up would look for a TPU first.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import jax

jax.config.update("jax_num_cpu_devices", 8)
