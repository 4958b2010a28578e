"""Our transformer beside diffusers' WanTransformer3DModel in torch, on this CPU, in float32.

    python experiments/benchmarks/transformer.py [--rounds 15]

Both are the 15M preset (6 layers, 384 wide, 6 heads of 64) with the same weights, on 1,024 tokens,
batch 2, text of 64 tokens. A training step is forward, backward and AdamW; a sampling step is one
forward pass. They take turns in one process, and medians are compared; peak memory is that of a
process of its own for each. Prints a table in markdown.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

Step = Callable[[], Any]

CONFIG: dict[str, Any] = {
    "num_layers": 6,
    "num_attention_heads": 6,
    "attention_head_dim": 64,
    "ffn_dim": 1536,
    "in_channels": 16,
    "out_channels": 16,
    "text_dim": 256,
}
BATCH, GRID, TEXT = 2, (4, 32, 32), 64
TASKS = ("training", "sampling")
LIBRARIES = ("torch", "ours")


def inputs() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Returns a latent, its target, text features, and one time for each row."""
    random = np.random.default_rng(0)
    shape = (BATCH, *GRID, CONFIG["in_channels"])
    latent, target = (random.standard_normal(shape, np.float32) for _ in range(2))
    text = random.standard_normal((BATCH, TEXT, CONFIG["text_dim"]), np.float32)
    return latent, target, text, np.array([0.3, 0.7], np.float32)


def torch_steps() -> tuple[dict[str, Step], dict[str, np.ndarray]]:
    """Returns the steps in torch, and the weights that they start from."""
    import torch
    from diffusers.models.transformers.transformer_wan import WanTransformer3DModel

    torch.manual_seed(0)
    model = WanTransformer3DModel(**CONFIG)
    weights = {name: value.numpy().copy() for name, value in model.state_dict().items()}
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4, fused=True)
    latent, target, text, sigma = (torch.from_numpy(x) for x in inputs())
    latent, target = (x.permute(0, 4, 1, 2, 3).contiguous() for x in (latent, target))

    def training() -> float:
        optimizer.zero_grad()
        out = model(latent, 1000.0 * sigma, text, return_dict=False)[0]
        loss = torch.nn.functional.mse_loss(out, target)
        loss.backward()
        optimizer.step()
        return loss.item()

    @torch.inference_mode()
    def sampling() -> Any:
        return model(latent, 1000.0 * sigma, text, return_dict=False)[0]

    return {"training": training, "sampling": sampling}, weights


def our_steps(weights: dict[str, np.ndarray] | None = None) -> dict[str, Step]:
    """Returns our steps, from the given weights of diffusers or fresh ones."""
    import flax.linen as nn
    import jax
    import jax.numpy as jnp
    import optax

    from sora_jax.importers import wan

    model = wan.transformer.from_config(CONFIG)
    latent, target, text, sigma = (jnp.asarray(x) for x in inputs())
    field, length = sigma[:, None, None, None], jnp.full(BATCH, TEXT)
    if weights is None:
        params = nn.unbox(jax.jit(model.init)(jax.random.key(0), latent, field, text, length))
        params = params["params"]
    else:
        params = jax.tree.map(jnp.asarray, wan.transformer.from_diffusers(model, weights))
    optimizer = optax.adamw(1e-4, weight_decay=1e-2)

    def predict(params: Any) -> Any:
        return model.apply({"params": params}, latent, field, text, length)

    def loss(params: Any) -> jax.Array:
        return jnp.square(predict(params) - target).mean()

    def update(state: Any) -> Any:
        params, moments = state
        value, gradient = jax.value_and_grad(loss)(params)
        change, moments = optimizer.update(gradient, moments, params)
        return value, (optax.apply_updates(params, change), moments)

    forward, update = jax.jit(predict), jax.jit(update, donate_argnums=0)
    state = [(jax.tree.map(jnp.copy, params), optimizer.init(params))]

    def training() -> float:
        value, state[0] = update(state[0])
        return float(jax.block_until_ready(value))

    return {"training": training, "sampling": lambda: forward(params).block_until_ready()}


def alternate(steps: dict[str, Step], rounds: int) -> dict[str, float]:
    """Returns the median seconds of each step, all of them run in turn `rounds` times."""
    for step in steps.values():
        step()
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def peak_gigabytes(library: str, task: str) -> float:
    """Returns the peak resident memory of a process that runs one step three times."""
    command = [sys.executable, __file__, "--only", library, "--task", task]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", choices=LIBRARIES)
    parser.add_argument("--task", choices=TASKS, default="training")
    arguments = parser.parse_args()
    if arguments.only:
        steps = our_steps() if arguments.only == "ours" else torch_steps()[0]
        for _ in range(3):
            steps[arguments.task]()
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
        return
    # Before this process grows: on Linux a child begins with its parent's peak.
    memory = {task: [peak_gigabytes(library, task) for library in LIBRARIES] for task in TASKS}
    theirs, weights = torch_steps()
    ours = our_steps(weights)
    print("| step | torch s | ours s | ratio | torch GiB | ours GiB |\n|---|---|---|---|---|---|")
    for task in TASKS:
        times = alternate({"torch": theirs[task], "ours": ours[task]}, arguments.rounds)
        print(
            f"| {task} | {times['torch']:.3f} | {times['ours']:.3f} |"
            f" {times['torch'] / times['ours']:.2f} | {memory[task][0]:.2f} |"
            f" {memory[task][1]:.2f} |"
        )


if __name__ == "__main__":
    main()
