"""The table of experiments/README.md: what 500 prompts of one shape each give, way by way.

    python experiments/worlds/prompts_table.py [CHECKPOINT] --samples 500 \\
        --out runs/prompts

Every row asks for fresh sprites by colour, shape, motion and place, and reads the clips:

    square, small,
    wide, tall, long,
    images                sizes that the model was trained on
    never trained         sizes that it was not
    held out              combinations of slots that it never saw
    described             descriptive captions, which say size, spot and speed as well
    misspelt              the same captions with typing errors
    paraphrased           phrasings that no caption has

Ceiling is the same reading of the world's own clips, floor that of its clips of other prompts; of
"alone", which says that there is one thing and no other, that of clips that show all twice.
Writes OUT.md and OUT.json row by row, and prints the table. Rows that OUT.json has of the same
weights and settings are not made again. The clips are kept in OUT_clips: where the measures are
others, remove OUT.json, and the clips are read again.

With --seen it makes nothing, and tells what share of each row's prompts were captions of the clips
that `small.py` trains on, word for word, in two minutes.
"""

import argparse
import dataclasses
import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import sora_jax
from sora_jax import config
from sora_jax.arrays import Size
from sora_jax.data.captions import misspelt
from sora_jax.data.worlds import phrases
from sora_jax.data.worlds.sprites import Scene
from sora_jax.evaluation.capabilities import measure
from sora_jax.evaluation.suite import cases
from sora_jax.evaluation.suites.text import Text
from sora_jax.evaluation.table import Capabilities


@dataclasses.dataclass(frozen=True, kw_only=True)
class Misspelt(Text):
    """Captions with typing errors."""

    def caption(self, scene: Scene, rng: np.random.Generator) -> str:
        return misspelt(super().caption(scene, rng), rng)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Paraphrased(Text):
    """Known words in orders that no caption has."""

    def caption(self, scene: Scene, rng: np.random.Generator) -> str:
        (sprite,) = scene.sprites
        ground = phrases.one_of(rng, phrases.GROUNDS[scene.place])
        move = phrases.one_of(rng, phrases.MOVES[sprite.motion])
        thing = f"{sprite.colour} {sprite.kind}"
        return phrases.one_of(
            rng,
            (
                f"On {ground}, there is one {thing} and it {move}.",
                f"{ground}; the {thing} {move}",
                f"The {sprite.kind} that {move} over {ground} is {sprite.colour}",
                f"a {sprite.kind} over {ground}, {sprite.colour}: it {move}",
            ),
        )


ROWS = {
    "square 17x64x64": Text(),
    "small 17x48x48": Text(size=Size(17, 48, 48)),
    "wide 17x64x112": Text(size=Size(17, 64, 112)),
    "tall 17x112x64": Text(size=Size(17, 112, 64)),
    "long 33x64x64": Text(size=Size(33, 64, 64)),
    "wide 9x72x128": Text(size=Size(9, 72, 128)),
    "tall 9x128x72": Text(size=Size(9, 128, 72)),
    "image 1x128x128": Text(size=Size(1, 128, 128)),
    "image 1x72x128": Text(size=Size(1, 72, 128)),
    "never trained 1x64x64": Text(size=Size(1, 64, 64)),
    "never trained 17x72x72": Text(size=Size(17, 72, 72)),
    "never trained 13x56x96": Text(size=Size(13, 56, 96)),
    "never trained 25x80x64": Text(size=Size(25, 80, 64)),
    "held out 17x64x64": Text(held_out=True),
    "described 17x64x64": Text(described=True),
    "misspelt 17x64x64": Misspelt(),
    "paraphrased 17x64x64": Paraphrased(),
}
SLOTS = [metric.name for metric in Text().metrics]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("checkpoint", nargs="?")
    parser.add_argument("--samples", type=int, default=500)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--guidance", type=float, default=3.0)
    parser.add_argument("--rows", nargs="*", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--out", default="prompts")
    parser.add_argument("--seen", action="store_true")
    given = parser.parse_args()
    if given.seen:
        print("\n".join(seen(given.rows, given.samples)))
        return
    pipeline = sora_jax.load(given.checkpoint)
    settings = {name: getattr(given, name) for name in ("samples", "steps", "guidance")}
    about = {"weights": pipeline.fingerprint(), **settings}
    file = Path(f"{given.out}.json")
    file.parent.mkdir(parents=True, exist_ok=True)
    kept = json.loads(file.read_text()) if file.exists() else {}
    rows = kept["rows"] if kept.get("about") == about else {}
    for name in given.rows:
        if name not in rows:
            start = time.monotonic()
            report = measure(pipeline, [ROWS[name]], batch=5, keep=f"{given.out}_clips", **settings)
            seconds = time.monotonic() - start
            rows[name] = {
                "line": f"| {name} | {' | '.join(cells(name, report))} | {seconds:.0f} |",
                "report": json.loads(report.to_json()),
            }
            file.write_text(json.dumps({"about": about, "rows": rows}, indent=1))
        print(rows[name]["line"], flush=True)
    heads = ("prompts", *SLOTS, "95 % of all", "seconds")
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    lines += [rows[name]["line"] for name in ROWS if name in rows]
    Path(f"{given.out}.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def seen(rows: Sequence[str], samples: int) -> list[str]:
    """The table of what of each row's prompts the shipped transformer was trained on."""
    stages = config.read_experiment(Path(__file__).with_name("small.py"))
    trained = (s.data.source for s in stages if getattr(s, "name", "") in ("square", "latents"))
    known = {
        caption.text
        for source in trained
        for record in source.open().records
        for caption in record.captions
    }
    lines = ["| prompts | captions in training |", "|---|---|"]
    for name in rows:
        asked = [case.caption in known for case in cases(ROWS[name], samples)]
        lines.append(f"| {name} | {np.mean(asked):.0%} |")
    return lines


def cells(name: str, report: Capabilities) -> list[str]:
    """What the slots of a row have scored, and the interval of all."""
    told = {row.metric.name: row.arms for row in report.rows}
    texts = []
    for slot in SLOTS:
        if slot not in told:  # motion, of an image
            texts.append("")
            continue
        broken = next(each.floor for each in ROWS[name].metrics if each.name == slot)
        model, ceiling, floor = (told[slot][arm].value for arm in ("model", "ceiling", broken))
        texts.append(f"**{model:.1%}** ({floor:.0%} to {ceiling:.0%})")
    every = told["all"]["model"]
    return [*texts, f"{every.low:.1%} to {every.high:.1%}"]


if __name__ == "__main__":
    main()
