"""The transformer of 1.3B parameters on one GPU in bfloat16, and diffusers' beside it.

    pip install torch diffusers
    python experiments/benchmarks/gpu.py [--rounds 3]

* The training step of `experiments/video/sora_1_3b.py` as training runs it, text encoder, noise
  field and averages included, at 8k and at 32k tokens: tokens a second, the share of the chip's
  peak that the formula's operations make (MFU; what is computed again does not count), memory.
* The transformer alone, which learns and which samples, beside `WanTransformer3DModel` of the same
  configuration compiled by torch, with its SDPA: both compute every layer again in the backward
  pass, both have weights and moments in float32 and AdamW.
* What the largest training step spends its time with, from a profile.
* Attention by cuDNN, and by XLA, of keys some of which are padding, against float64.

Each library has a process of its own, one right after the other. Prints tables in Markdown.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import functools
import itertools
import json
import math
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

EXPERIMENT = Path(__file__).parents[1] / "video/sora_1_3b.py"
PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "L40S": 362e12}
"""Dense bfloat16 operations a second, of NVIDIA's data sheets."""
GIB = 2**30
XLA = {
    # To try Triton's matrix products besides cuBLAS's takes minutes, and these are as fast.
    "XLA_FLAGS": "--xla_gpu_enable_triton_gemm=false",
    # All of the GPU, in one piece: a step has temporaries of half its memory.
    "XLA_PYTHON_CLIENT_PREALLOCATE": "true",
    "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.95",
}


class Case(NamedTuple):
    """Rows of latents of frames x height x width."""

    rows: int
    grid: tuple[int, int, int]

    @property
    def pixels(self) -> tuple[int, int, int]:
        frames, height, width = self.grid
        return 4 * (frames - 1) + 1, 8 * height, 8 * width

    @property
    def tokens(self) -> int:
        frames, height, width = self.grid
        return self.rows * frames * height * width // 4


LARGEST = "1 x 32,760"
CASES = {"4 x 8,190": Case(4, (21, 30, 52)), LARGEST: Case(1, (21, 60, 104))}
KEPT = {"none": "nothing", "save_attention": "all but attention"}
"""Of `models.remat.Remat`: what the backward pass computes again."""
TEXT, TEXT_WIDTH = 512, 4096
CONFIG: dict[str, Any] = {
    "num_layers": 30,
    "num_attention_heads": 12,
    "attention_head_dim": 128,
    "ffn_dim": 8960,
    "in_channels": 16,
    "out_channels": 16,
    "text_dim": TEXT_WIDTH,
}


def median(step: Callable[[], Any], rounds: int) -> float:
    """The median seconds of a step that returns when it is done."""
    step()
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def exact(query: Any, key: Any, value: Any, valid: Any, change: Any) -> list[np.ndarray]:
    """Attention of [rows, heads, tokens, head_dim] and its gradients in float64."""
    scale = query.shape[-1] ** -0.5
    logits = query @ key.swapaxes(-1, -2) * scale
    logits = np.where(valid[:, None, None], logits, -np.inf)
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    d_weights = change @ value.swapaxes(-1, -2)
    inner = (d_weights * weights).sum(-1, keepdims=True)
    d_logits = weights * (d_weights - inner) * scale
    turned = d_logits.swapaxes(-1, -2)
    return [weights @ value, d_logits @ key, turned @ query, weights.swapaxes(-1, -2) @ change]


def attention_errors() -> dict[str, list[float]]:
    """Of each kernel |x - exact| / |exact| of the output and the gradients."""
    import jax
    import jax.numpy as jnp

    from sora_jax.models.attention import Attention, attention

    random = np.random.default_rng(0)
    shape = (3, 1000, 4, 128)
    arrays = [random.standard_normal(shape).astype(jnp.bfloat16) for _ in range(4)]
    # Padding between valid keys, as that of columns is; one row has none.
    valid = random.random((3, 1000)) < np.array([[0.7], [0.1], [1.0]])
    turned = (x.astype(np.float64).transpose(0, 2, 1, 3) for x in arrays)
    query, key, value, change = turned
    wanted = [x.transpose(0, 2, 1, 3) for x in exact(query, key, value, valid, change)]
    errors = {}
    for kernel in ("cudnn", "xla") if jax.default_backend() == "gpu" else ("xla",):

        def read(*arrays: Any, kernel: Any = kernel) -> Any:
            return attention(*arrays, valid=jnp.asarray(valid), how=Attention(kernel=kernel))

        out, back = jax.vjp(jax.jit(read), *map(jnp.asarray, arrays[:3]))
        found = [np.asarray(x, np.float64) for x in (out, *back(jnp.asarray(arrays[3])))]
        errors[kernel] = [
            float(np.linalg.norm(mine - true) / np.linalg.norm(true))
            for mine, true in zip(found, wanted, strict=True)
        ]
    return errors


class Lowered(NamedTuple):
    """A program (state, batch) -> (state, ...) if it `learns`, else anything."""

    lowered: Any
    make: Callable[[], Any]
    batch: Any
    learns: bool


@dataclasses.dataclass
class Ours:
    """What our process measures: all is compiled ahead, in threads."""

    rounds: int

    def __post_init__(self) -> None:
        from sora_jax import config
        from sora_jax.parallel.mesh import Mesh

        stages: Any = config.read_experiment(EXPERIMENT)
        self.stage = dataclasses.replace(stages[-1], mesh=Mesh(devices=1))
        self.devices = self.stage.mesh.build()

    def results(self) -> Iterator[tuple[str, Any]]:
        """Names and values, each as soon as it is known."""
        import jax

        yield "chip", jax.devices()[0].device_kind
        lowered = {}
        for name, case in reversed(CASES.items()):
            for remat in KEPT:
                lowered[f"training/{name}/{remat}"] = self.lowered_training(case, remat)
            lowered[f"alone/{name}"] = self.lowered_alone(case)
            lowered[f"sampling/{name}"] = self.lowered_sampling(case)
        began = time.monotonic()
        with ThreadPoolExecutor(len(lowered)) as pool:
            compiled = pool.map(lambda one: one.lowered.compile(), lowered.values())
            programs = dict(zip(lowered, compiled, strict=True))
        yield "compiling", time.monotonic() - began
        for group in ("training", "alone", "sampling"):
            state = None
            for name in (name for name in lowered if name.startswith(group)):
                one = lowered[name]
                state = [one.make()] if state is None or not one.learns else state
                step = functools.partial(_taken, programs[name], state, one)
                try:
                    seconds = median(step, self.rounds)
                except jax.errors.JaxRuntimeError as error:
                    if "RESOURCE_EXHAUSTED" not in str(error):
                        raise
                    seconds, state = None, None
                yield name, [seconds, _memory(programs[name])]
                if name == f"training/{LARGEST}/none" and seconds:
                    yield "profile", profiled(step)
                del step
        yield "attention", attention_errors()

    def lowered_training(self, case: Case, remat: str) -> Lowered:
        """The step that training runs."""
        import jax

        from sora_jax.training.programs import Prepared

        objective = self.stage.objective.rematerialised(remat)
        train = dataclasses.replace(self.stage, objective=objective, remat={})
        batch = _batch(case, objective.channels)
        with train.mesh.use(self.devices):
            prepared = Prepared.of(train, {"": batch}, self.devices)
            lowered = prepared.steps[""].lower(prepared.state, prepared.batches[""])
        placed = jax.tree.map(lambda leaf: train.mesh.place(leaf, self.devices), batch)

        def make() -> Any:
            weights = {name: _random(getattr(prepared.state, name)) for name in ("params", "ema")}
            return _zeros(prepared.state.replace(params=None, ema=None)).replace(**weights)

        return Lowered(lowered, make, placed, learns=True)

    def lowered_alone(self, case: Case) -> Lowered:
        """The transformer's own step, every layer being computed again."""
        import jax
        import jax.numpy as jnp
        import optax

        model = _model(remat="full")
        latent, target, text, sigma = (jnp.asarray(x) for x in inputs(case))
        length = jnp.full(case.rows, TEXT)
        optimizer = optax.adamw(1e-4, weight_decay=1e-2)

        def loss(params: Any, latent: Any, target: Any, text: Any) -> Any:
            out = model.apply({"params": params}, latent, sigma, text, length)
            return jnp.square(out - target).mean()

        def step(state: Any, arrays: Any) -> Any:
            params, moments = state
            value, gradient = jax.value_and_grad(loss)(params, *arrays)
            change, moments = optimizer.update(gradient, moments, params)
            return (optax.apply_updates(params, change), moments), value

        params = _shapes(model)
        moments, arrays = jax.eval_shape(optimizer.init, params), (latent, target, text)
        lowered = jax.jit(step, donate_argnums=0).lower((params, moments), arrays)
        return Lowered(lowered, lambda: (_random(params), _zeros(moments)), arrays, learns=True)

    def lowered_sampling(self, case: Case) -> Lowered:
        """A forward pass; the text, which is the same in each, was read before."""
        import jax
        import jax.numpy as jnp

        model = _model()
        latent, _, text, sigma = (jnp.asarray(x) for x in inputs(case))

        def read(params: Any) -> Any:
            length = jnp.full(case.rows, TEXT)
            return model.apply({"params": params}, text, length, method="read_text")

        def step(state: Any, latent: Any) -> Any:
            params, prompt = state
            return model.apply({"params": params}, latent, sigma, prompt, method="denoise")

        params = _shapes(model)
        lowered = jax.jit(step).lower((params, jax.eval_shape(read, params)), latent)

        def make() -> Any:
            weights = _random(params)
            return weights, jax.jit(read)(weights)

        return Lowered(lowered, make, latent, learns=False)


def _taken(program: Any, held: list[Any], one: Lowered) -> None:
    """Runs a program to its end; what one that learns gives is what it takes next."""
    import jax
    import jax.numpy as jnp

    out = jax.block_until_ready(program(held[0], one.batch))
    if one.learns:
        held[0], out = out
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(out)), out


def profiled(step: Callable[[], Any]) -> dict[str, float]:
    """Seconds of the GPU by kernel, in one step."""
    import jax

    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            step()
        (file,) = Path(folder).rglob("*.xplane.pb")
        data = jax.profiler.ProfileData.from_file(str(file))
    seconds: collections.Counter[str] = collections.Counter()
    for plane in data.planes:
        if plane.name.startswith("/device:GPU"):
            for line in plane.lines:
                if line.name.startswith("Stream"):
                    for event in line.events:
                        seconds[event.name] += event.duration_ns / 1e9
    return dict(seconds)


KINDS = (
    ("attention, backward", r"(flash_bprop|sdpa.*b(wd|prop)|bprop|dot_do_o|convert_dq)"),
    ("attention, forward", r"(flash_fprop|sdpa.*f(wd|prop)|fprop)"),
    ("matrix products", r"(gemm|nvjet|cutlass|cublas|xmma|dot)"),
    ("copies", r"(memcpy|memset|copy|transpose)"),
)


def kind_of(kernel: str) -> str:
    """What a kernel computes, by its name; what XLA fused is all that is elementwise."""
    for kind, pattern in KINDS:
        if re.search(pattern, kernel, re.IGNORECASE):
            return kind
    return "norms, rotations, gates and the update"


def _memory(compiled: Any) -> float:
    needs = compiled.memory_analysis()
    taken = needs.argument_size_in_bytes + needs.temp_size_in_bytes
    return (taken + max(0, needs.output_size_in_bytes - needs.alias_size_in_bytes)) / GIB


def _model(**fields: Any) -> Any:
    from sora_jax.importers import wan

    return wan.transformer.from_config(CONFIG).clone(dtype="bfloat16", **fields)


def _shapes(model: Any) -> Any:
    import flax.linen as nn
    import jax
    import jax.numpy as jnp

    latent, text = jnp.zeros((1, 1, 2, 2, 16)), jnp.zeros((1, 1, TEXT_WIDTH))
    sigma, length = jnp.zeros((1, 1, 1, 1)), jnp.ones(1, int)
    return nn.unbox(jax.eval_shape(model.init, jax.random.key(0), latent, sigma, text, length))[
        "params"
    ]


def _random(tree: Any) -> Any:
    """Random arrays of these shapes: products of others, of zeros say, are faster."""
    import jax

    def leaf(shape: Any) -> Any:
        # A generator that compiles at once.
        key = jax.random.key(math.prod(shape.shape), impl="rbg")
        return 0.02 * jax.random.normal(key, shape.shape, shape.dtype)

    return jax.tree.map(jax.jit(leaf, static_argnums=0), tree)


def _zeros(tree: Any) -> Any:
    import jax
    import jax.numpy as jnp

    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), tree)


def _batch(case: Case, channels: int) -> Any:
    from sora_jax.arrays import Batch, Text

    random = np.random.default_rng(0)
    latent = random.standard_normal((case.rows, *case.grid, channels), np.float32)
    return Batch(
        video=None,
        latent=latent,
        spans=latent,
        spanned=np.zeros((case.rows, case.grid[0]), bool),
        extent=np.tile(np.array(case.pixels, np.int32), (case.rows, 1)),
        text=Text(
            tokens=random.integers(1, 250, (case.rows, TEXT)).astype(np.int32),
            length=np.full(case.rows, TEXT, np.int32),
        ),
        weight=np.ones(case.rows, np.float32),
    )


def operations(case: Case) -> float:
    """Of a training step, text encoder included, by the formula."""
    from sora_jax import config
    from sora_jax.models import accounting

    stages: Any = config.read_experiment(EXPERIMENT)
    read = accounting.text_encoder(stages[-1].objective.text, text=TEXT, batch=case.rows)
    return alone(case, learns=True) + read.training_flops


def alone(case: Case, *, learns: bool) -> float:
    """Of the transformer alone, of a training step or a forward pass."""
    from sora_jax.arrays import Size
    from sora_jax.models import accounting

    cost = accounting.transformer(_model(), Size(*case.grid), text=TEXT, batch=case.rows)
    return cost.training_flops if learns else cost.flops


def inputs(case: Case) -> tuple[np.ndarray, ...]:
    """Returns a latent, its target, text features, and a time for each row [rows, 1, 1, 1]."""
    random = np.random.default_rng(0)
    shape = (case.rows, *case.grid, 16)
    latent, target = (random.standard_normal(shape, np.float32) for _ in range(2))
    text = random.standard_normal((case.rows, TEXT, TEXT_WIDTH), np.float32)
    sigma = np.linspace(0.3, 0.7, case.rows, dtype=np.float32)
    return latent, target, text, sigma[:, None, None, None]


def theirs(rounds: int) -> Iterator[tuple[str, Any]]:
    """Seconds and memory of diffusers' transformer: learning and sampling at both sizes."""
    import torch
    from diffusers.models.transformers.transformer_wan import WanTransformer3DModel

    torch.set_float32_matmul_precision("high")
    torch.manual_seed(0)
    with torch.device("cuda"):
        model = WanTransformer3DModel(**CONFIG)
    model.enable_gradient_checkpointing()
    # Block by block, as diffusers advises: the same programs, compiled once for all layers.
    model.compile_repeated_blocks(fullgraph=True, dynamic=False)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4, fused=True)

    def measured(step: Callable[[], Any]) -> list[float]:
        torch.cuda.reset_peak_memory_stats()
        return [median(step, rounds), torch.cuda.max_memory_allocated() / GIB]

    def laid_out(case: Case) -> list[Any]:
        latent, target, text, sigma = (torch.from_numpy(x).cuda() for x in inputs(case))
        latent, target = (x.permute(0, 4, 1, 2, 3).contiguous() for x in (latent, target))
        return [latent, target, text, 1000.0 * sigma.reshape(-1)]

    for name, case in CASES.items():
        latent, target, text, times = laid_out(case)

        def training(latent=latent, target=target, text=text, times=times) -> None:
            optimizer.zero_grad()
            with torch.autocast("cuda", torch.bfloat16):
                out = model(latent, times, text, return_dict=False)[0]
            torch.nn.functional.mse_loss(out.float(), target).backward()
            optimizer.step()
            torch.cuda.synchronize()

        yield f"alone/{name}", measured(training)
    optimizer.zero_grad()
    del optimizer
    model.to(torch.bfloat16)
    for name, case in CASES.items():
        latent, _, text, times = laid_out(case)
        latent, text = latent.bfloat16(), text.bfloat16()

        @torch.inference_mode()
        def sampling(latent=latent, text=text, times=times) -> None:
            model(latent, times, text, return_dict=False)
            torch.cuda.synchronize()

        yield f"sampling/{name}", measured(sampling)


def asked(library: str, rounds: int) -> dict[str, Any]:
    """What a process of its own measures, as much of it as it comes to."""
    command = [sys.executable, __file__, "--only", library, "--rounds", str(rounds)]
    flags = XLA if library == "ours" else {}
    found: dict[str, Any] = {}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=os.environ | flags
    ) as process:
        for line in process.stdout or ():
            if line.startswith("RESULT "):
                found |= json.loads(line.removeprefix("RESULT "))
                print(f"{library}: {line[7:200].strip()}", file=sys.stderr, flush=True)
    return found


def tables(ours: dict[str, Any], torch: dict[str, Any]) -> str:
    """All tables of what was measured; what was not has no row."""
    peak = next((value for name, value in PEAKS.items() if name in ours["chip"]), math.nan)
    lines = [f"{ours['chip']}; compiling took {ours['compiling']:.0f} s", ""]
    lines += ["| training step | computed again | s | tokens/s | MFU | GiB |"]
    lines += ["|---|---|---|---|---|---|"]
    for (name, case), (remat, again) in itertools.product(CASES.items(), KEPT.items()):
        seconds, memory = ours.get(f"training/{name}/{remat}", (None, 0.0))
        if memory:
            told = "does not fit | | |"
            if seconds:
                used, rate = operations(case) / seconds / peak, case.tokens / seconds
                told = f"{seconds:.3f} | {rate:,.0f} | {used:.1%} |"
            lines.append(f"| {name} tokens | {again} | {told} {memory:.1f} |")
    lines += ["", "| transformer alone | torch s | ours s | ratio | MFU | torch GiB | ours GiB |"]
    lines.append("|---|---|---|---|---|---|---|")
    for group, word in (("alone", "training"), ("sampling", "sampling")):
        for name, case in CASES.items():
            key = f"{group}/{name}"
            if key in torch and ours.get(key, [None])[0]:
                (other, taken), (seconds, memory) = torch[key], ours[key]
                done = alone(case, learns=group == "alone") / seconds / peak
                lines.append(
                    f"| {word}, {name} tokens | {other:.3f} | {seconds:.3f} |"
                    f" {other / seconds:.2f} | {done:.1%} | {taken:.1f} | {memory:.1f} |"
                )
    lines += ["", "| attention | output | queries | keys | values |", "|---|---|---|---|---|"]
    for kernel, errors in ours.get("attention", {}).items():
        lines.append(f"| {kernel} | " + " | ".join(f"{each:.1e}" for each in errors) + " |")
    kinds: collections.Counter[str] = collections.Counter()
    for kernel, seconds in ours.get("profile", {}).items():
        kinds[kind_of(kernel)] += seconds
    lines += ["", f"| training step, {LARGEST} tokens | s | share |", "|---|---|---|"]
    for kind, seconds in kinds.most_common():
        lines.append(f"| {kind} | {seconds:.3f} | {seconds / kinds.total():.0%} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=("ours", "torch"), help=argparse.SUPPRESS)
    parser.add_argument("--out", help="also write all that was measured there, as JSON")
    given = parser.parse_args()
    if given.only:
        results = Ours(given.rounds).results() if given.only == "ours" else theirs(given.rounds)
        for name, value in results:
            print("RESULT " + json.dumps({name: value}), flush=True)
        return
    found: dict[str, Any] = {}
    for library in ("ours", "torch"):
        found[library] = asked(library, given.rounds)
        if given.out:
            Path(given.out).write_text(json.dumps(found, indent=1))
    if "compiling" not in found["ours"]:
        sys.exit("our process failed, as said above")
    print(tables(found["ours"], found["torch"]))


if __name__ == "__main__":
    main()
