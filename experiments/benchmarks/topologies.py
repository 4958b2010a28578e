"""Training steps of 1.3B and 14B parameters, compiled for TPU slices that are not there.

    pip install "jax[tpu]"
    python experiments/benchmarks/topologies.py [--only 1.3B] [--ways listed]

Each slice gets the mesh that the experiment lists for it, and the one that a search finds (the
same where the list has been brought up to it), which is compared with all chips along fsdp. Every
`sora-jax compile` leaves its JSON in `plans` beside this file; what is there already is not
compiled again. Writes topologies.md from all of them.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from sora_jax import config
from sora_jax.arrays import Size
from sora_jax.compilation import guessed_from
from sora_jax.meshes import Guess, guess, guesses
from sora_jax.parallel.mesh import Mesh
from sora_jax.parallel.topology import Slice

PAGE = Path(__file__).with_suffix(".md")


class Case(NamedTuple):
    """One bucket of an experiment on a slice; `clips` of at most `tokens` make a batch, None the
    one of the file."""

    model: str
    topology: str
    bucket: str
    clips: int | None = None
    tokens: int = 0

    def __str__(self) -> str:
        return f"{self.model} on {self.topology}"

    @property
    def file(self) -> str:
        """The experiment, in `experiments`."""
        return f"video/sora_{self.model.lower().replace('.', '_')}.py"

    def command(self, way: str, out: Path) -> list[str]:
        flags = ["--topology", self.topology, "--buckets", self.bucket]
        if way == "search":
            flags += ["--search"]
        if self.clips is not None:
            flags += ["--transformer.data.tokens", str(self.clips * self.tokens)]
            flags += ["--transformer.data.multiple", str(self.clips)]
        file = f"experiments/{self.file}"
        return ["sora-jax", "compile", file, *flags, "--json-out", str(self.path(way, out))]

    def path(self, way: str, out: Path) -> Path:
        return out / f"{self.model}_{self.topology.replace(':', '_')}_{way}.json"


CASES = (
    # The budget is that of the largest clips of the file's other buckets, of 33,600 tokens.
    Case("1.3B", "v5e:4x4", "81x480x832", 16, 33_600),
    Case("1.3B", "v6e:16x16", "81x480x832"),
    Case("14B", "v5p:4x4x4", "81x720x1280", 32, 75_600),
    Case("14B", "v6e:16x16", "81x720x1280"),
    # One clip on four chips, of which there are measurements by others.
    Case("14B", "v5p:2x2x1", "81x720x1280", 1, 75_600),
)
WAYS = ("listed", "search")

HEAD = """# Training steps on TPU slices, compiled without them

    pip install "jax[tpu]"
    python experiments/benchmarks/topologies.py

The programs are those that training would run, compiled by XLA for the slice on a machine without a
TPU. Memory is what XLA plans: state (parameters, their average and the moments, all float32) and
temporary. Times are the least that the chip's published peaks allow, none of them measured: a real
step takes longer than the longest of the three, and MFU stays below what is said. Computing counts
what a layer computes again in the backward pass, which MFU does not (and not what attention's
kernels compute again by themselves). An exchange has the links of all sides of the torus that its
devices span. `stacks` counts kernels that are gathered for all layers at once, `pairs` arrays with
a number for each pair of tokens, as attention without a kernel has them.

"""

COLUMNS = (
    *("model", "slice", "clips", "mesh", "from", "remat", "state, GiB", "temporary, GiB"),
    *("of HBM", "compute, ms", "memory, ms", "exchange, ms", "tokens/s a chip", "MFU at most"),
    *("attention", "stacks", "pairs"),
)

PUBLISHED = """
## What MaxDiffusion publishes of the same work

Measured by them, where the rows above are bounds that no run reaches. Offload: block inputs go to
the host. Sources: pull requests of MaxDiffusion, and tpu-recipes.

| work | chips | clips | s a step | tokens/s a chip | MFU | memory, GB | source |
|---|---|---|---|---|---|---|---|
| 14B at 75,600 tokens, offload | 4 of v5p | 1 | 32.8 | 577 | 32.5 % | 48.7 | 273 |
| the same, full remat | 4 of v5p | 1 | 36.7 | 515 | 29.0 % | 49.4 | 273 |
| the same | 64 of Ironwood | 32 | 24.6 | 1,538 | 17.3 % | | tpu-recipes |
| an expert of Wan 2.2, 14B | 64 of Ironwood | | 39.7 | | | | 470, open |
| the same, another backward kernel | 64 of Ironwood | | 13.57 | | 33.3 % | | 487, open |

They publish no training step of 1.3B on a TPU, and none on v5e or v6e. Their parameters and moments
are bfloat16, without an average.
"""


def row(case: Case, way: str, plan: dict[str, Any]) -> str:
    state = sum(plan["bytes"].values()) - plan["bytes"].get("temporary", 0)
    cells = [case.model, case.topology, plan["batch"], plan["mesh"], way, plan["remat"]]
    cells += [f"{state / 2**30:.1f}"]
    if plan["refused"]:
        return f"| {' | '.join(map(str, cells))} | does not compile: {plan['refused'][:80]} |"
    step = max(plan["seconds"].values())
    rate = plan["tokens"] / plan["chips"] / step
    share = plan["flops"] / (plan["flops"] + plan["recomputed"])
    kernel = "splash" if any("splash" in name for name in plan["kernels"]) else "plain XLA"
    cells += [
        f"{plan['bytes']['temporary'] / 2**30:.1f}",
        f"{sum(plan['bytes'].values()) / plan['hbm']:.0%}" + ("" if plan["fits"] else ", too much"),
        *(f"{1000 * plan['seconds'][name]:,.0f}" for name in ("compute", "memory", "exchange")),
        f"{rate:,.0f}",
        f"{share * plan['seconds']['compute'] / step:.0%} ({plan['bound']})",
        kernel,
        len(plan["stacks"]),
        len(plan["dense"]),
    ]
    return f"| {' | '.join(map(str, cells))} |"


def why(case: Case, plans: list[dict[str, Any]]) -> str:
    """What a search found, beside all chips along fsdp; and by formulas beside what is next."""
    *compared, found = plans
    parts = [f"* {case}: {found['mesh']}, remat {found['remat']}."]
    if compared:
        # With all of a layer computed again, or with what the search found, where that fits.
        plain = next((each for each in reversed(compared) if each["fits"]), compared[0])
        if plain["fits"]:
            times = ", ".join(
                f"{kind} {1000 * plain['seconds'][kind]:,.0f}" for kind in found["seconds"]
            )
            parts.append(f"All along fsdp, remat {plain['remat']}: {times} ms.")
        else:
            parts.append("All along fsdp does not fit.")
    else:
        parts.append(f"Along fsdp alone {found['batch']} clips do not suffice for all chips.")
    (stage,) = (
        each
        for each in config.read_experiment(PAGE.parents[1] / case.file)
        if each.name == found["stage"]
    )
    size = Size(*map(int, case.bucket.split("x")))
    latent, about = guessed_from(stage, size, found["batch"], Slice(case.topology))
    model = stage.objective.model
    mesh = Mesh(data=1, **{axis: int(n) for axis, n in _axes(found["mesh"])})
    other = next((g for g in guesses(model, latent, **about) if g.mesh != mesh), None)
    own = guess(model, latent, mesh=mesh, remat=found["remat"], **about)
    if other:
        parts.append(f"By formulas: {own.why}; the next mesh, {_named(other)}: {other.why}.")
    order = ("none", "save_attention", "full", "offload")
    for remat in order[: order.index(found["remat"])]:
        more = guess(model, latent, mesh=mesh, remat=remat, **about)
        fits = f"{more.bytes / 2**30:.0f} GiB of {found['hbm'] / 2**30:.0f}"
        parts.append(f"With remat {remat} it would take {fits}.")
    return " ".join(parts)


def _axes(mesh: str) -> list[tuple[str, str]]:
    return [(axis, n) for axis, _, n in (part.partition("=") for part in mesh.split())]


def _named(one: Guess) -> str:
    axes = ("data", "fsdp", "sequence", "tensor")
    sides = {axis: getattr(one.mesh, axis) for axis in axes}
    return " ".join(f"{axis}={n}" for axis, n in sides.items() if n > 1) + f", remat {one.remat}"


def page(out: Path) -> str:
    rows, reasons = [], []
    for case in CASES:
        plans: list[tuple[str, dict[str, Any]]] = []
        for way in WAYS:
            path = case.path(way, out)
            if not path.exists():
                continue
            *compared, found = json.loads(path.read_text())
            if way == "search":
                reasons.append(why(case, [*compared, found]))
            if plans and all(plans[0][1][what] == found[what] for what in ("mesh", "remat")):
                plans = [("listed, and found", plans[0][1])]
            else:
                plans += [*(("all along fsdp", each) for each in compared), (way, found)]
        rows += [row(case, name, plan) for name, plan in plans]
    columns = f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"
    table = "\n".join((*columns, *rows))
    found = "\n".join(("", "## What the search found", "", *reasons, "")) if reasons else ""
    return f"{HEAD}{table}\n{found}{PUBLISHED}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", default=PAGE.with_name("plans"), help="folder of the JSON files")
    parser.add_argument("--only", default="", help="part of a model's and a slice's name")
    parser.add_argument("--ways", nargs="*", choices=WAYS, default=WAYS)
    given = parser.parse_args()
    out = Path(given.out)
    out.mkdir(parents=True, exist_ok=True)
    for case in CASES:
        for way in given.ways if case.clips != 1 else ("search",):
            if given.only in f"{case.model} {case.topology}" and not case.path(way, out).exists():
                command = case.command(way, out)
                print(" ".join(command), flush=True)
                subprocess.run([sys.executable, "-m", "sora_jax", *command[1:]], check=False)
    PAGE.write_text(page(out))


if __name__ == "__main__":
    main()
