"""What several devices cost beside one that does the same work; compiling, cold and from the cache.

    JAX_PLATFORMS=cpu python experiments/benchmarks/overhead.py [--steps 40]

Trains the shipped transformer on two buckets of small squares, each time for the same steps: on one
CPU device, and on eight virtual ones of the same processor, so that what they take longer is what
sharding costs. Every run begins twice: the first time its programs are compiled, the second time
they are found. Prints the table of experiments/README.md.
"""

import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from sora_jax.training.metrics import read_lines

EXPERIMENT = "experiments/worlds/small.py"
BATCH = ("--transformer.data.tokens", "5760", "--transformer.data.multiple", "8")
MESHES = {
    "one device": {"data": 1},
    "data 8": {"data": 8},
    "fsdp 8": {"data": 1, "fsdp": 8},
    "fsdp 2, tensor 4": {"data": 1, "fsdp": 2, "tensor": 4},
    "fsdp 2, sequence 4": {"data": 1, "fsdp": 2, "sequence": 4},
}
# Of eight devices on two cores some come to an exchange long after the others: by default XLA takes
# them for stuck after 40 seconds.
PATIENT = "--xla_cpu_collective_call_terminate_timeout_seconds=600"
COMPILED = re.compile(r"(\d+) programs, one a bucket, in ([\d.]+) s: \d+ compiled, (\d+) found")


def trained(out: Path, *flags: str, devices: int) -> str:
    """What a training says."""
    command = [sys.executable, "-m", "sora_jax", "train", EXPERIMENT, "--smoke", "--out", str(out)]
    ended = subprocess.run(
        [*command, *flags],
        env=os.environ | {"JAX_NUM_CPU_DEVICES": str(devices), "XLA_FLAGS": PATIENT},
        capture_output=True,
        text=True,
    )
    if ended.returncode:
        sys.exit(ended.stderr[-3000:])
    return ended.stderr


def compiling(said: str) -> tuple[float, int]:
    """Seconds per bucket, and how many programs were found in the cache."""
    found = COMPILED.findall(said)[-1]
    return float(found[1]) / int(found[0]), int(found[2])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=40)
    given = parser.parse_args()
    print("| mesh | step, s | to one device | compiling a bucket, s | found again, s | waiting |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        latents = Path(folder) / "latents"
        trained(latents, "--until", "held_out", devices=1)
        alone = 0.0
        for name, axes in MESHES.items():
            out = Path(folder) / name.replace(" ", "_")
            shutil.copytree(latents, out)
            devices = 1
            mesh = []
            for axis, size in axes.items():
                mesh += [f"--transformer.mesh.{axis}={size}"]
                devices *= size
            mesh += [f"--transformer.mesh.devices={devices}", "--transformer.log-every=1"]
            flags = (*mesh, *BATCH, f"--transformer.steps={given.steps}")
            cold, found = compiling(trained(out, *flags, devices=devices))
            assert not found
            lines = read_lines(out / "transformer")[given.steps // 4 :]
            shutil.rmtree(out / "transformer")
            warm, found = compiling(trained(out, *flags, devices=devices))
            assert found
            step = statistics.median(line["seconds_per_step"] for line in lines)
            waiting = statistics.mean(line["waiting_share"] for line in lines)
            alone = alone or step
            cells = f"{step:.3f} | {step / alone:.2f} | {cold:.1f} | {warm:.1f} | {waiting:.1%}"
            print(f"| {name} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
