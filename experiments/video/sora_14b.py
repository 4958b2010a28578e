"""A text-to-video model of 14B parameters at 720p, on the autoencoder of the one of 1.3B.

    sora-jax compile experiments/video/sora_14b.py --topology v5p:4x4x4
    sora-jax train experiments/video/sora_14b.py --latents.data.source.path gs://bucket/clips \\
        --latents.autoencoder gs://bucket/runs/sora_1_3b/autoencoder --out gs://bucket/runs/sora_14b

Sizes and shapes are Wan 2.1's: 81 frames of 720 x 1280 are 75,600 tokens. Nothing of it has been
trained here: tests show that its shapes fit, and `compile` tells whether its steps fit on a slice.
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
from sora_jax.models import block_vae, dit
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
BATCH, TOKENS = 64, 75_600
LATENTS = LatentClips(path="{out}/latents", tokenizer=TEXT, tokens=BATCH * TOKENS, multiple=BATCH)

experiment = (
    Encode(
        name="latents",
        autoencoder="runs/sora_1_3b/autoencoder",
        data=Clips(
            source=SOURCE,
            buckets=(
                Bucket(frames=81, height=720, width=1280, batch=4 * BATCH),
                Bucket(frames=81, height=1280, width=720, batch=4 * BATCH),
                Bucket(frames=1, height=960, width=960, batch=16 * BATCH),
            ),
            tokenizer=TEXT,
            fps=16.0,
            spans=Spans(),
        ),
        # Of each host, which encodes by itself: a clip for each of its four chips.
        mesh=Mesh(data=1, fsdp=-1),
        rows=4,
        # Latents enough to tell their mean and deviation; all would be a pass over the data.
        measure_steps=500,
    ),
    Train(
        name="transformer",
        objective=Denoising(
            model=dit.PRESETS["14B"](text_width=2048, dtype="bfloat16", remat="full"),
            text=ByteEncoder(width=2048, depth=12, heads=32, length=512, dtype="bfloat16"),
            times=Shifted(base=LogitNormal(), reference_tokens=1024),
            levels=NoiseField(),
        ),
        data=LATENTS,
        optimizer=AdamW(learning_rate=5e-5, warmup=2000),
        steps=400_000,
        ema=0.9999,
        mesh=Mesh(data=1, fsdp=-1),
        # Those that `sora-jax compile --search` found; see benchmarks/topologies.md. 64 chips of
        # v5p hold half a batch: --transformer.data.tokens 2419200 --transformer.data.multiple 32,
        # and --transformer.accumulate 2 makes of two one update.
        meshes={
            "v5p:4x4x4": Mesh(data=1, fsdp=32, sequence=2),
            "v6e:16x16": Mesh(data=1, fsdp=64, sequence=4),
        },
        remats={"v5p:4x4x4": "save_attention"},
        # Of as many tokens, and so many more captions.
        remat={"1x960x960": "full"},
        evaluators=(
            Samples(
                every=5000,
                prompts=("A dog runs on a beach.", "Rain falls on a street at night."),
                frames=81,
                height=720,
                width=1280,
            ),
            Validation(every=5000, data=LATENTS),
        ),
    ),
)

# The same with an autoencoder of its own, the smallest presets and small boxes.
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
            levels=NoiseField(),
        ),
        data=LatentClips(path="{out}/latents", tokenizer=TEXT),
        steps=2,
    ),
)
