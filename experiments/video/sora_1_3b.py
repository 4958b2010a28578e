"""A text-to-video model of 1.3B parameters on a folder of your own, for a TPU slice or eight GPUs.

    sora-jax describe experiments/video/sora_1_3b.py
    sora-jax compile experiments/video/sora_1_3b.py --topology v6e:16x16
    sora-jax train experiments/video/sora_1_3b.py --out gs://bucket/runs/sora_1_3b \\
        --autoencoder.data.source.path gs://bucket/clips \\
        --latents.data.source.path gs://bucket/clips

Sizes and shapes are Wan 2.1's. Clips keep their aspect ratios in the buckets below, of as many
pixels as 480 x 832 or less, 32,760 tokens; a still goes to a bucket of its own. Nothing of it has
been trained here: tests show that its shapes fit, and `compile` tells whether its steps fit on a
slice.
"""

from sora_jax.data.buckets import Bucket
from sora_jax.data.captions import Bytes
from sora_jax.data.folder import Folder
from sora_jax.data.latents import LatentClips
from sora_jax.data.pipeline import Clips
from sora_jax.data.spans import Spans
from sora_jax.data.suggest import Suggested
from sora_jax.diffusion.times import LogitNormal, Shifted
from sora_jax.evaluation.evaluators import Samples, Validation
from sora_jax.models import block_vae, dit, vae
from sora_jax.models.discriminator import PatchDiscriminator
from sora_jax.models.text import ByteEncoder
from sora_jax.objectives.autoencoding import Autoencoding
from sora_jax.objectives.denoising import Denoising
from sora_jax.objectives.levels import NoiseField
from sora_jax.parallel.mesh import Mesh
from sora_jax.training.encoding import Encode
from sora_jax.training.optimizer import AdamW
from sora_jax.training.train import Train

TEXT = Bytes(length=512)
SOURCE = Folder(path="data/clips")
MESH = Mesh(data=1, fsdp=-1)
# Those that `sora-jax compile --search` found; see benchmarks/topologies.md. Of the 64 clips of a
# batch v6e's 256 chips share each among four, two ways, and keep all for the backward pass. 16
# chips of v5e hold a quarter of a batch: --transformer.data.tokens 537600
# --transformer.data.multiple 16, and --transformer.accumulate 4 makes of four one update.
BATCH, TOKENS = 64, 33_600
LATENTS = LatentClips(path="{out}/latents", tokenizer=TEXT, tokens=BATCH * TOKENS, multiple=BATCH)
MESHES = {
    "v5e:4x4": Mesh(data=1, fsdp=16),
    "v6e:16x16": Mesh(data=1, fsdp=64, sequence=2, tensor=2),
}

experiment = (
    Train(
        name="autoencoder",
        objective=Autoencoding(
            vae=vae.PRESETS["wan"](dtype="bfloat16", remat="blocks"),
            discriminator=PatchDiscriminator(),
        ),
        data=Clips(
            source=SOURCE,
            buckets=(
                Bucket(frames=17, height=256, width=256, batch=64),
                Bucket(frames=1, height=512, width=512, batch=256),
            ),
            tokenizer=TEXT,
            image_share=0.2,
        ),
        optimizer=AdamW(learning_rate=1e-4, warmup=1000, apart={"discriminator": 1.0}),
        steps=200_000,
        ema=0.9999,
        mesh=MESH,
        # A batch has 64 clips: of v6e's 256 chips four do the same, and share the parameters.
        meshes={"v6e:16x16": Mesh(data=1, fsdp=64, sequence=4)},
    ),
    Encode(
        name="latents",
        autoencoder="{out}/autoencoder",
        data=Clips(
            source=SOURCE,
            buckets=(
                Bucket(frames=81, height=480, width=832, batch=4 * BATCH),
                Bucket(frames=81, height=832, width=480, batch=4 * BATCH),
                Bucket(frames=81, height=640, width=640, batch=4 * BATCH),
                Bucket(frames=1, height=640, width=640, batch=16 * BATCH),
            ),
            tokenizer=TEXT,
            fps=16.0,
            spans=Spans(),
        ),
        # Of each host, which encodes by itself: a clip for each of its four chips.
        mesh=MESH,
        rows=4,
        # Latents enough to tell their mean and deviation; all would be a pass over the data.
        measure_steps=500,
    ),
    Train(
        name="transformer",
        objective=Denoising(
            model=dit.PRESETS["1.3B"](text_width=1024, dtype="bfloat16", remat="full"),
            text=ByteEncoder(width=1024, depth=8, heads=16, length=512),
            times=Shifted(base=LogitNormal(), reference_tokens=1024),
            levels=NoiseField(),
        ),
        data=LATENTS,
        optimizer=AdamW(learning_rate=1e-4, warmup=2000),
        steps=400_000,
        ema=0.9999,
        mesh=MESH,
        meshes=MESHES,
        remats={"v6e:16x16": "none"},
        evaluators=(
            Samples(
                every=5000,
                prompts=("A dog runs on a beach.", "Rain falls on a street at night."),
                frames=81,
                height=480,
                width=832,
            ),
            Validation(every=5000, data=LATENTS),
        ),
    ),
)

# The same stages with the smallest presets and small boxes.
few = Suggested(tokens=256, frames=(1, 9), pixels=32 * 64, shapes=2)
smoke = (
    Train(
        name="autoencoder",
        objective=Autoencoding(vae=block_vae.PRESETS["tiny"]()),
        data=Clips(source=SOURCE, buckets=few, tokenizer=TEXT),
        steps=2,
    ),
    Encode(
        name="latents",
        autoencoder="{out}/autoencoder",
        data=Clips(source=SOURCE, buckets=few, tokenizer=TEXT, fps=16.0),
    ),
    Train(
        name="transformer",
        objective=Denoising(
            model=dit.PRESETS["1M"](text_width=64),
            text=ByteEncoder(width=64, depth=1, heads=2, length=512),
        ),
        data=LatentClips(path="{out}/latents", tokenizer=TEXT),
        steps=2,
    ),
)
