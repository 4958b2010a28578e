"""The table of experiments/README.md: what `real_clips.py` has learnt, on clips it saw and did not.

    python experiments/video/real_clips_table.py runs/real_clips data/real

Reconstruction. Each clip, 17 frames at its own rate and of about 64 x 64 pixels, is given back by
the autoencoder, and by a bicubic reduction of every frame to as many numbers as its latent holds
(both antialiased, by Pillow). Compared are frames that followed the training clips, and a clip of
a source of its own.

Generation. Each caption of each training clip makes a clip in the size of the one it describes. It
is encoded again, and so is every training clip, stretched to the same size lest its shape give it
away: the nearest is the one with a window at the least distance. As a control the same is done
with no caption.

Writes RUN/table.md, RUN/table.json and RUN/sheet.png, and prints the table.
"""

import argparse
import dataclasses
import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from rich.progress import track

import sora_jax
from sora_jax import config
from sora_jax.arrays import Size
from sora_jax.data.buckets import GRID
from sora_jax.data.folder import Folder
from sora_jax.data.framing import resized
from sora_jax.data.pipeline import Clips
from sora_jax.data.video import contact_sheet, write_video
from sora_jax.evaluation.reconstruction import encoded, fidelity, reconstructed, whole_frames
from sora_jax.generation.pipeline import Pipeline
from sora_jax.training.encoding import RECORD

FRAMES = 9
"""Of what is generated; those of reconstructions are LONGER."""
LONGER = 17
AREA = 64 * 64


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fidelity:
    """PSNR in dB of one clip, ours and bicubic."""

    name: str
    ours: float
    bicubic: float


def bicubic(frames: np.ndarray, values: int) -> np.ndarray:
    """The clip reduced in space to `values` numbers, as near as whole pixels allow, and enlarged.

    Never to fewer: of the sizes with the aspect ratio of the frames, the smallest that holds as
    many.
    """
    count, height, width, channels = frames.shape
    scale = math.sqrt(values / (count * channels * height * width))
    small = [math.ceil(height * scale), math.ceil(width * scale)]
    result = np.empty_like(frames)
    for index, frame in enumerate(frames):
        reduced = Image.fromarray(frame).resize(small[::-1], Image.Resampling.BICUBIC)
        result[index] = np.asarray(reduced.resize((width, height), Image.Resampling.BICUBIC))
    return result


def sized(frames: np.ndarray) -> np.ndarray:
    """The clip in its own aspect ratio of the area AREA, in whole latents."""
    height, width = frames.shape[1:3]
    scale = min(1.0, math.sqrt(AREA / (height * width)))
    _, step, _ = GRID.factor
    size = (max(step, round(n * scale / step) * step) for n in (height, width))
    return resized(frames, *size)


def reconstructions(pipeline: Pipeline, folder: Path) -> Iterator[Fidelity]:
    """The fidelity of every clip of a folder."""
    source = Folder(path=str(folder)).open()
    for index, record in enumerate(source.records):
        clip = source.read(index, 0, LONGER, fps=None)
        clip = sized(whole_frames(clip, pipeline.vae.factor))
        latent = pipeline.vae.latent_size(Size(*clip.shape[:3]))
        values = math.prod(latent) * pipeline.vae.latent_channels
        ours = reconstructed(pipeline.vae, pipeline.vae_params, clip)
        yield Fidelity(
            name=record.name,
            ours=fidelity(clip, ours)["psnr"],
            bicubic=fidelity(clip, bicubic(clip, values))["psnr"],
        )


class Training:
    """The training clips: captions, sizes, and the latents of their windows at any size."""

    def __init__(self, pipeline: Pipeline, data: Clips) -> None:
        self.pipeline = pipeline
        source = data.source.open()
        self.records = source.records
        self.sizes: list[tuple[int, int]] = [(0, 0)] * len(self.records)
        self.windows: list[list[np.ndarray]] = [[] for _ in self.records]
        _, windows = data.lay_out(source)
        for record, start, frames, height, width, _ in windows.columns():
            self.windows[record].append(source.read(record, start, frames, fps=data.fps))
            self.sizes[record] = int(height), int(width)
        self.known: dict[tuple[int, int], list[list[np.ndarray]]] = {}

    def nearest(self, frames: np.ndarray) -> int:
        """The clip whose latent is nearest to that of `frames`."""
        height, width = frames.shape[1:3]
        if (height, width) not in self.known:
            self.known[height, width] = [
                [self._latent(resized(window, height, width)) for window in windows]
                for windows in self.windows
            ]
        mine = self._latent(frames)
        distances = [
            min(float(np.mean((each - mine) ** 2)) for each in latents)
            for latents in self.known[height, width]
        ]
        return int(np.argmin(distances))

    def _latent(self, frames: np.ndarray) -> np.ndarray:
        # A clip that is short of frames stands still at its end.
        missing = FRAMES - len(frames)
        frames = np.concatenate([frames, frames[-1:].repeat(missing, 0)])
        return np.asarray(encoded(self.pipeline.vae, self.pipeline.vae_params, frames))


def generations(
    pipeline: Pipeline, training: Training, *, steps: int, guidance: float, sheet: Path
) -> dict[str, list[bool]]:
    """For each kind of caption, whether the nearest clip is the one that it describes."""
    right: dict[str, list[bool]] = {}
    shown: list[tuple[str, np.ndarray]] = []
    for index, record in enumerate(track(training.records, description="generating")):
        height, width = training.sizes[index]
        captions = {caption.kind: caption.text for caption in record.captions} | {"none": ""}
        for kind, text in captions.items():
            clip = pipeline.generate(
                text,
                frames=FRAMES,
                height=height,
                width=width,
                steps=steps,
                guidance=guidance if text else 1.0,
                seed=index,
            )
            right.setdefault(kind, []).append(training.nearest(clip.frames) == index)
            if kind == "short":
                shown.append((text, clip.frames))
    chosen = shown[:: max(1, len(shown) // 9)][:9]
    pictures = contact_sheet([frames for _, frames in chosen], [text for text, _ in chosen])
    write_video(sheet, pictures[None], fps=1)
    return right


def table(fidelities: dict[str, list[Fidelity]], right: dict[str, list[bool]]) -> str:
    """Both results in Markdown."""
    lines = [
        "| reconstruction of | clips | autoencoder, dB | bicubic, dB | gain, dB | least gain |"
    ]
    lines.append("|---|---|---|---|---|---|")
    for name, rows in fidelities.items():
        ours, theirs = (np.mean([getattr(row, side) for row in rows]) for side in SIDES)
        least = min(row.ours - row.bicubic for row in rows)
        lines.append(
            f"| {name} | {len(rows)} | {ours:.2f} | {theirs:.2f} | {ours - theirs:.2f} |"
            f" {least:.2f} |"
        )
    lines += ["", "| prompted with | nearest clip is the right one |", "|---|---|"]
    for kind, found in right.items():
        lines.append(f"| {PROMPTS.get(kind, kind)} | {sum(found)} of {len(found)} |")
    return "\n".join(lines)


def encoded_clips(run: Path, folder: Path) -> Clips:
    """What the run's latents were made of, read from `folder`."""
    record = json.loads((run / "latents" / RECORD).read_text())
    data = config.from_json(record["encode"]).data
    return dataclasses.replace(data, source=Folder(path=str(folder)))


SIDES = ("ours", "bicubic")
PROMPTS = {"short": "its short caption", "descriptive": "its descriptive caption"}
PROMPTS["none"] = "nothing (control)"


def main() -> None:
    parser = argparse.ArgumentParser(description="What real_clips.py has learnt.")
    parser.add_argument("run", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--guidance", type=float, default=3.0)
    asked = parser.parse_args()
    pipeline = sora_jax.load(asked.run)
    parts = {
        "training clips": "train",
        "frames after them": "unseen",
        "clip of another source": "held_out",
    }
    fidelities = {
        name: list(reconstructions(pipeline, asked.data / part)) for name, part in parts.items()
    }
    right = generations(
        pipeline,
        Training(pipeline, encoded_clips(asked.run, asked.data / "train")),
        steps=asked.steps,
        guidance=asked.guidance,
        sheet=asked.run / "sheet.png",
    )
    text = table(fidelities, right)
    (asked.run / "table.md").write_text(text + "\n")
    found = {
        "fidelities": {k: [dataclasses.asdict(row) for row in v] for k, v in fidelities.items()},
        "right": right,
    }
    (asked.run / "table.json").write_text(json.dumps(found, indent=1) + "\n")
    print(text)


if __name__ == "__main__":
    main()
