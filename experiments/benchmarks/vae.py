"""Encoding and decoding beside diffusers' AutoencoderKLWan on this machine, as a markdown table.

    JAX_PLATFORMS=cpu python experiments/benchmarks/vae.py

Both have the same random weights (base 16) and see the same clip of 9x64x64, batch 1. Rounds
alternate between the two in one process. On a machine that does other things besides, compare the
fastest rounds: torch waits for its slowest thread. Memory is the peak of a process that does only
one thing, the compiler's included. Needs torch and diffusers.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

BASE, CLIP = 16, (1, 9, 64, 64, 3)
SIDES, DIRECTIONS = ("ours", "diffusers"), ("encode", "decode")
Run = Callable[[], Any]


def ours(tensors: dict[str, np.ndarray] | None = None) -> dict[str, Run]:
    """Returns what to time, with the given weights or fresh ones."""
    import jax

    from sora_jax.importers import wan
    from sora_jax.models.vae import VAE

    vae, clip = VAE(base=BASE), pixels()
    if tensors is None:
        params = jax.jit(vae.init)(jax.random.key(0), clip[:, :5, :8, :8])["params"]
    else:
        params = wan.vae.from_diffusers(vae, tensors, mean=[0.0] * 16, std=[1.0] * 16)
    variables = jax.device_put({"params": params})
    encode = jax.jit(functools.partial(vae.apply, method="encode"))
    decode = jax.jit(functools.partial(vae.apply, method="decode"))
    return {
        "encode": lambda: jax.block_until_ready(encode(variables, clip)),
        "decode": lambda: jax.block_until_ready(decode(variables, latents())),
    }


def diffusers() -> tuple[dict[str, Run], dict[str, np.ndarray]]:
    """Returns what to time, and the weights."""
    import torch
    from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan

    torch.manual_seed(0)
    model: Any = AutoencoderKLWan(base_dim=BASE).eval().requires_grad_(False)
    clip, latent = (torch.from_numpy(np.moveaxis(x, -1, 1).copy()) for x in (pixels(), latents()))
    runs = {
        "encode": lambda: model.encode(clip).latent_dist.mode(),
        "decode": lambda: model.decode(latent).sample,
    }
    return runs, {name: tensor.numpy() for name, tensor in model.state_dict().items()}


def pixels() -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, CLIP).astype(np.float32)


def latents() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(1, 3, 8, 8, 16)).astype(np.float32)


def times(sides: dict[str, Run], rounds: int) -> dict[str, list[float]]:
    """Returns milliseconds by side, in alternation; the first round is thrown away."""
    taken: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(rounds + 1):
        for side, run in sides.items():
            start = time.perf_counter()
            run()
            taken[side].append(1e3 * (time.perf_counter() - start))
    return {side: values[1:] for side, values in taken.items()}


def peak(side: str, direction: str) -> float:
    """Returns the peak resident memory, in MB, of a process that runs one direction of one side."""
    command = [sys.executable, __file__, "--memory", side, direction]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def memory(side: str, direction: str) -> None:
    run = (ours() if side == "ours" else diffusers()[0])[direction]
    for _ in range(2):
        run()
    # Not getrusage: its peak is inherited from the process that started this one.
    status = Path("/proc/self/status").read_text()
    print(int(status.split("VmHWM:")[1].split()[0]) / 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--memory", nargs=2, metavar=("SIDE", "DIRECTION"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory:
        return memory(*arguments.memory)
    theirs, tensors = diffusers()
    mine = ours(tensors)
    columns = ("ours ms", "diffusers ms", "ratio", "ratio of fastest", "ours MB", "diffusers MB")
    print("| 9x64x64, base 16 | " + " | ".join(columns) + " |")
    print("|---" * (1 + len(columns)) + "|")
    for direction in DIRECTIONS:
        sides = dict(zip(SIDES, (mine[direction], theirs[direction]), strict=True))
        taken = times(sides, arguments.rounds)
        medians = [statistics.median(taken[side]) for side in SIDES]
        fastest = [min(taken[side]) for side in SIDES]
        row = [
            direction,
            *(f"{median:.0f}" for median in medians),
            *(f"{other / own:.2f}" for own, other in (medians, fastest)),
            *(f"{peak(side, direction):.0f}" for side in SIDES),
        ]
        print("| " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))
    main()
