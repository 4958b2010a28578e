"""Settings of every test: eight virtual CPU devices, and strict ranks."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile

# Before JAX is imported: with libtpu installed, start-up would look for a TPU first.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Tests run each program a few times at most: compiling it thoroughly would cost most of their time.
# XLA's newer way of compiling fusions alone takes three times as long as all else.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    " --xla_backend_extra_options=xla_cpu_disable_new_fusion_emitters"
    " --xla_cpu_parallel_codegen_split_count=1",
)
# Nothing goes into the user's own cache; what several tests of a process compile is compiled once.
os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="sora_jax_programs")

import jax

jax.config.update("jax_num_cpu_devices", 8)
atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)
