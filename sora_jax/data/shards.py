"""Latents on disk: the files that `sora-jax encode` writes.

A folder of latents holds, for each process that wrote it,

    00000-of-00001.00000.array_record   one window a record, and the next, and so on: shards
    00000-of-00001.00000.json           what is in that shard, written after it
    manifest-00000-of-00001.json        that all shards are there, written last
    autoencoder/                        what decodes them

A writer that is killed leaves whole shards and no manifest: nothing reads such a folder, and the
next writer goes on after the last whole shard. array_record knows local files only: for a remote
folder (gs://) shards are made locally and copied there, and read from a local copy.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgpack
import numpy as np
from array_record.python.array_record_module import ArrayRecordWriter
from etils import epath
from numpy import ndarray

from sora_jax.arrays import ALL_ROWS, Share, Size
from sora_jax.data.assembly import Loaded
from sora_jax.data.buckets import Bucket, Grid
from sora_jax.data.copies import local_copies
from sora_jax.data.datasets import Caption, Record
from sora_jax.data.plan import Plan, PlanError, PlannedRow
from sora_jax.files import is_remote, write_whole

log = logging.getLogger("sora_jax")

FORMAT = 2
"""Of records and manifests; those of others are refused."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LatentRecord:
    """One window of a clip: its valid `size` in pixels, and the float16 `latent` that holds it.

    `spans` are the latents of the frames that are `spanned`, encoded by themselves.
    """

    name: str
    start: int
    size: Size
    captions: tuple[Caption, ...]
    latent: ndarray
    spanned: ndarray
    spans: ndarray

    def pack(self) -> bytes:
        """The record as bytes."""
        header = (self.name, self.start, self.size, [(c.kind, c.text) for c in self.captions])
        latent, spans = (np.ascontiguousarray(x, "<f2") for x in (self.latent, self.spans))
        spanned = np.flatnonzero(self.spanned).tolist()
        packed = msgpack.packb((*header, latent.shape, latent.tobytes(), spanned, spans.tobytes()))
        assert packed is not None
        return packed

    @classmethod
    def unpack(cls, data: bytes) -> LatentRecord:
        """The record that `pack` made bytes of."""
        name, start, size, captions, shape, values, places, spans = msgpack.unpackb(data)
        spanned = np.zeros(shape[0], bool)
        spanned[places] = True
        return cls(
            name=name,
            start=start,
            size=Size(*size),
            captions=tuple(Caption(kind=kind, text=text) for kind, text in captions),
            latent=np.frombuffer(values, "<f2").reshape(shape),
            spanned=spanned,
            spans=np.frombuffer(spans, "<f2").reshape(len(places), *shape[1:]),
        )


class LatentWriter:
    """Writes one pass of planned clips as latents; `start` is the step to begin with.

    `write` takes the steps from `start` on in order, then `finish` makes the folder readable.
    Raises FileExistsError if it is already, or if unfinished latents of other clips lie there, and
    PlanError if one pass of the plan does not hold every window exactly once.
    """

    def __init__(
        self,
        *,
        path: str,
        plan: Plan,
        records: Sequence[Record],
        grid: Grid,
        fps: float,
        fingerprint: str,
        spans: bool = False,
        share: Share = ALL_ROWS,
        rows_a_shard: int = 1024,
    ) -> None:
        if plan.image_share is not None:
            raise PlanError(
                "latents are written in one pass over stills and videos alike; plan with "
                "image_share=None, as Clips.once() does"
            )
        self.plan, self.records, self.grid = plan, records, grid
        self.fingerprint = f"{fingerprint} format {FORMAT}"
        self.fps, self.spans = fps, spans
        self.share = share
        self.rows_a_shard = rows_a_shard
        self.folder = epath.Path(path).expanduser()
        self.folder.mkdir(parents=True, exist_ok=True)
        if self._manifest.exists():
            raise FileExistsError(f"{path} already holds finished latents; remove it or use them")
        self.shards = self._whole_shards()
        self.start = self._taken = self.shards[-1]["next_step"] if self.shards else 0
        self._pending: list[tuple[str, LatentRecord]] = []
        self._failed: dict[str, str] = {}

    def write(
        self, loaded: Loaded, latent: ndarray, *, step: int, spans: ndarray | None = None
    ) -> None:
        """Takes step `step`: its batch, and the normalised latents of this process's rows of it.

        `spans`, of the same shape, are those of the frames of `Batch.spanned` by themselves.
        Raises ValueError if a latent is not finite.
        """
        planned = self.plan.step(step)
        rows = planned.rows_of(self.share)
        self._failed |= loaded.failed
        spanned = loaded.batch.spanned
        for index, (row, extent) in enumerate(zip(rows, loaded.batch.extent, strict=True)):
            if row is not None and extent[0]:
                size = Size(*map(int, extent))
                given = np.zeros(len(latent[index]), bool) if spanned is None else spanned[index]
                own = latent[index] if spans is None else spans[index]
                record = self._record(row, size, latent[index], np.asarray(given), own)
                self._pending.append((str(planned.bucket.size), record))
        self._taken = step + 1
        if len(self._pending) >= self.rows_a_shard:
            self._write_shard(step + 1)

    def keep(self) -> None:
        """Writes what it was given so far, for one that is to go on from there."""
        if self._pending or self._failed:
            self._write_shard(self._taken)

    def finish(self) -> None:
        """Writes what is left and the manifest. Raises PlanError if there was no window at all."""
        if self._pending or self._failed:
            self._write_shard(self.plan.epoch_steps)
        if not any(shard["rows"] for shard in self.shards):
            raise PlanError(f"no clip could be encoded, so {self.folder} would be empty")
        failed = {name for shard in self.shards for name in shard["failed"]}
        if failed:
            log.warning(
                "%s: %d clips could not be read and are left out (named above, and as `failed` in "
                "the shards' JSON); to try them again, remove the folder and encode again",
                self.folder,
                len(failed),
            )
        manifest = {
            "format": FORMAT,
            "process_count": self.share.of,
            "fps": self.fps,
            "factor": self.grid.factor,
            "patch": self.grid.patch,
            "buckets": [dataclasses.astuple(bucket) for bucket in self.plan.used],
            "spans": self.spans,
            "shards": self.shards,
        }
        write_whole(self._manifest, json.dumps(manifest).encode())

    @property
    def _stem(self) -> str:
        return f"{self.share.parts[0]:05d}-of-{self.share.of:05d}"

    @property
    def _manifest(self) -> epath.Path:
        return self.folder / f"manifest-{self._stem}.json"

    def _record(
        self, row: PlannedRow, size: Size, values: ndarray, spanned: ndarray, spans: ndarray
    ) -> LatentRecord:
        frames, height, width = self.grid.latent(size)
        record = self.records[row.record]
        valid, own = (
            np.asarray(each)[:frames, :height, :width].astype(np.float16)
            for each in (values, spans)
        )
        own = own[spanned[:frames]]
        if not np.isfinite(valid).all() or not np.isfinite(own).all():
            raise ValueError(
                f"the latents of {record.name} from frame {row.start} are not finite numbers of 16 "
                "bits; the autoencoder that made them is damaged or was trained too little"
            )
        return LatentRecord(
            name=record.name,
            start=row.start,
            size=size,
            captions=record.captions,
            latent=valid,
            spanned=spanned[:frames],
            spans=own,
        )

    def _whole_shards(self) -> list[dict[str, Any]]:
        """What is known of the shards that an earlier writer completed; its other files go."""
        shards = []
        while (path := self.folder / f"{self._stem}.{len(shards):05d}.json").exists():
            shards.append(json.loads(path.read_text()))
        if any(shard["fingerprint"] != self.fingerprint for shard in shards):
            raise FileExistsError(
                f"{self.folder} holds unfinished latents of other clips, buckets or autoencoder; "
                "remove it"
            )
        whole = {name for shard in shards for name in (shard["file"], shard["file"] + ".json")}
        for path in list(self.folder.glob(f"{self._stem}.*.array_record*")):
            if path.name not in whole:
                path.unlink()
        return shards

    def _write_shard(self, next_step: int) -> None:
        """Writes the pending rows, the shard first and then what is in it."""
        stem = f"{self._stem}.{len(self.shards):05d}"
        packed = [record.pack() for _, record in self._pending]
        _write_records(self.folder / f"{stem}.array_record", packed)
        shard = {
            "file": f"{stem}.array_record",
            "fingerprint": self.fingerprint,
            "sha256": hashlib.sha256(b"".join(packed)).hexdigest(),
            "next_step": next_step,
            "rows": [(r.name, bucket, *r.size, r.latent.shape[-1]) for bucket, r in self._pending],
            "failed": self._failed,
        }
        write_whole(self.folder / f"{stem}.json", json.dumps(shard).encode())
        self.shards.append(shard)
        self._pending, self._failed = [], {}


class Shards(NamedTuple):
    """A finished folder: local paths of its shards, and a row (name, bucket, frames, height, width,
    channels) for each record in them; whether they hold frames encoded by themselves."""

    paths: tuple[str, ...]
    rows: tuple[tuple[str, str, int, int, int, int], ...]
    buckets: tuple[Bucket, ...]
    grid: Grid
    fps: float
    spans: bool
    digest: str


def read_shards(path: str) -> Shards:
    """What a folder of latents holds. Raises PlanError if it is not finished."""
    folder = epath.Path(path).expanduser()
    found = sorted(folder.glob("manifest-*.json")) if folder.is_dir() else []
    manifests = _complete([json.loads(file.read_text()) for file in found])
    if not manifests:
        raise PlanError(
            f"{path} holds no finished latents; run the stage that encodes them (again), "
            "`sora-jax encode`, and it goes on where it stopped"
        )
    if any(manifest.get("format") != FORMAT for manifest in manifests):
        raise PlanError(
            f"{path} holds latents of another version of sora_jax; remove it and encode again"
        )
    shards = [shard for manifest in manifests for shard in manifest["shards"]]
    boxes = dict.fromkeys(tuple(box) for manifest in manifests for box in manifest["buckets"])
    fields = [field.name for field in dataclasses.fields(Bucket)]
    grid = Grid(factor=Size(*manifests[0]["factor"]), patch=Size(*manifests[0]["patch"]))
    return Shards(
        paths=local_copies({folder / s["file"]: s["sha256"] for s in shards if s["rows"]}),
        rows=tuple(tuple(row) for shard in shards for row in shard["rows"]),
        buckets=tuple(Bucket(**dict(zip(fields, box, strict=True))) for box in boxes),
        grid=grid,
        fps=manifests[0]["fps"],
        spans=manifests[0]["spans"],
        digest=hashlib.sha256(json.dumps(shards).encode()).hexdigest(),
    )


def _complete(manifests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those of the processes that all finished: others may have begun before, in other numbers."""
    for count in sorted({manifest["process_count"] for manifest in manifests}):
        group = [each for each in manifests if each["process_count"] == count]
        if len(group) == count:
            return group
    return []


def _write_records(path: epath.Path, records: Sequence[bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "shard" if is_remote(path) else Path(f"{path}.partial")
        # Groups of one record are what makes reading at random fast; float16 hardly compresses.
        writer = ArrayRecordWriter(str(made), "group_size:1,uncompressed")
        for record in records:
            writer.write(record)
        writer.close()
        if is_remote(path):
            epath.Path(made).copy(path, overwrite=True)
        else:
            made.replace(path)
