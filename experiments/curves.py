"""Draws what a run has logged: the curves of some metrics over its steps, one panel each.

    python experiments/curves.py runs/small/transformer loss validation/mean --out curves.png

A metric that is logged often is drawn as it is and as its running mean. Needs `.[plots]`.
"""

import argparse
from pathlib import Path

import numpy as np

from sora_jax.evaluation.plots import matplotlib
from sora_jax.training.metrics import read_lines

SMOOTH = 25
"""Logged values that a running mean is of."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("stage", type=Path)
    parser.add_argument("metrics", nargs="+")
    parser.add_argument("--out", default="curves.png")
    given = parser.parse_args()
    lines = list(read_lines(given.stage))
    if not lines:
        raise SystemExit(f"{given.stage} holds no metrics.jsonl: name the folder of a stage")
    modules, _ = matplotlib()
    figure = modules.Figure(figsize=(5 * len(given.metrics), 3.2), layout="constrained")
    panels = figure.subplots(1, len(given.metrics), squeeze=False)
    for panel, name in zip(panels[0], given.metrics, strict=True):
        points = np.array([(line["step"], line[name]) for line in lines if name in line])
        if not len(points):
            known = sorted({key for line in lines for key in line})
            raise SystemExit(f"{given.stage} has no metric {name}; it has {', '.join(known)}")
        steps, values = points.T
        often = len(points) > 4 * SMOOTH
        panel.plot(
            steps, values, "-" if often else "o-", color="tab:blue", alpha=0.3 if often else 1
        )
        if often:
            mean = np.convolve(values, np.full(SMOOTH, 1 / SMOOTH), mode="valid")
            panel.plot(steps[SMOOTH - 1 :], mean, color="tab:blue")
        if "loss" in name:
            panel.set_yscale("log")
        panel.set_xlabel("step")
        panel.set_title(name)
        panel.grid(alpha=0.3)
    figure.savefig(given.out, dpi=110)
    print(given.out)


if __name__ == "__main__":
    main()
