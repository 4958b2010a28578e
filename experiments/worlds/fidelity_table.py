"""The table of experiments/README.md: what the autoencoder gives back, world by world.

    python experiments/worlds/fidelity_table.py [FOLDER]

FOLDER is a frozen autoencoder, by default the one that comes with the package. The clips are of
seeds that no training has. PSNR in dB and SSIM are means over clips; the last column is the least
PSNR of a clip.
"""

import argparse

import numpy as np

from sora_jax.arrays import Size
from sora_jax.data.worlds.source import ALL, Worlds
from sora_jax.evaluation.reconstruction import fidelity, reconstructed
from sora_jax.frozen import AUTOENCODER, read_frozen
from sora_jax.generation.loading import SHIPPED

SIZES = (Size(17, 64, 64), Size(9, 72, 128), Size(1, 128, 128))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", nargs="?", default=str(SHIPPED / AUTOENCODER))
    parser.add_argument("--clips", type=int, default=50)
    given = parser.parse_args()
    vae, params = read_frozen(given.folder)
    print("| world | " + " | ".join(f"{size}, dB | SSIM | least" for size in SIZES) + " |")
    print("|---" * (1 + 3 * len(SIZES)) + "|")
    means: dict[Size, list[float]] = {size: [] for size in SIZES}
    for world in ALL:
        cells = []
        for size in SIZES:
            source = Worlds(clips=given.clips, worlds=(world,), sizes=(size,), seed=1_000_003)
            opened = source.open()
            clips = [opened.read(index, 0, size.frames) for index in range(given.clips)]
            scores = [fidelity(clip, reconstructed(vae, params, clip)) for clip in clips]
            psnr = [score["psnr"] for score in scores]
            means[size].append(float(np.mean(psnr)))
            ssim = np.mean([score["ssim"] for score in scores])
            cells.append(f"{means[size][-1]:.1f} | {ssim:.3f} | {min(psnr):.1f}")
        print(f"| {world.name} | " + " | ".join(cells) + " |", flush=True)
    print("| mean | " + " | ".join(f"{np.mean(means[size]):.1f} | |" for size in SIZES) + " |")


if __name__ == "__main__":
    main()
