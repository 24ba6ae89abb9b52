"""What `train --cluster` does on each machine and with what it finds in shared storage, without a cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tellapart as ta
from tellapart.cluster.feature_shards import Index, shard_name, write_shard
from tellapart.cluster.features import Work, compute_shard
from tellapart.cluster.storage import Storage
from tellapart.data.batches import Images
from tellapart.errors import ConfigError, SourceError
from tellapart.training import feature_rows
from tellapart.training.features import Views
from tellapart.training.sharded import Asked, Sharded

pytest.importorskip("pyarrow")
pytest.importorskip("fsspec")
pytestmark = pytest.mark.usefixtures("shared_cache")

SMALL = ("image.height=32", "image.width=32", "train.views=2", "augment=light")
WIDTHS = (3, 2)


@dataclass
class Here:
    """A FeatureSource without a cluster: shards of 20 images. computed: the images of all calls."""

    store: Storage
    computed: int = field(default=0)

    def __call__(
        self,
        asked: Asked,
        images: Images,
        views: Views,
        tell: Callable[[int, int, str], None],
    ) -> Sharded:
        keys = [views.key(digest, view) for view in range(views.count) for digest in images.digests]
        index = Index(self.store, asked.key)
        missing = np.array([place for place, key in enumerate(keys) if key not in index], np.intp)
        work = Work(self.store, asked.key, asked.backbone, asked.taken, None)
        for chunk in np.array_split(missing, -(-len(missing) // 20)) if len(missing) else ():
            view, rows = np.divmod(chunk, len(images))
            name, known, problem = compute_shard(work, images.some(rows), views, view)
            assert not problem
            index.add(name, known)
            self.computed += len(chunk)
            tell(self.computed, len(missing), "")
        return index.sharded(keys, asked.widths)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Here:
    made = Here(Storage(tmp_path / "features"))

    @contextmanager
    def features_on(*_: str) -> Iterator[Here]:
        yield made

    monkeypatch.setattr("tellapart.cluster.features.features_on", features_on)
    return made


def train(images: Path, out: Path, progress: ta.Progress = ta.SILENT, **given: Any) -> ta.Run:
    return ta.train(images, config=ta.make_config(settings=SMALL), out=out, progress=progress, **given)


def test_shards_give_the_network_of_one_machine_and_a_second_run_finds_them(
    here: Here, two_shapes: Path, tmp_path: Path
) -> None:
    alone = train(two_shapes, tmp_path / "alone")
    spread = train(two_shapes, tmp_path / "spread", cluster="auto", feature_store="there")
    assert spread.onnx_file.read_bytes() == alone.onnx_file.read_bytes()
    counts = {split: sum(classes.values()) for split, classes in alone.catalog.counts().items()}
    assert here.computed == counts["train"] * 2 + counts["validation"] + counts["test"]
    train(two_shapes, tmp_path / "again", cluster="auto", feature_store="there")
    assert here.computed == counts["train"] * 2 + counts["validation"] + counts["test"]


def test_a_run_that_was_stopped_goes_on_with_the_shards_that_are_there(
    here: Here, two_shapes: Path, tmp_path: Path
) -> None:
    class Stop(ta.Progress):
        def update(self, stage: str, done: int, total: int, detail: str = "") -> None:  # noqa: ARG002
            if stage == "features, train":
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(two_shapes, tmp_path / "run", progress=Stop(), cluster="auto", feature_store="there")
    assert 0 < here.computed <= 20
    run = ta.resume(tmp_path / "run", cluster="auto", feature_store="there", progress=ta.SILENT)
    counts = {split: sum(classes.values()) for split, classes in run.catalog.counts().items()}
    assert run.status == "done"
    assert here.computed == counts["train"] * 2 + counts["validation"] + counts["test"]


def test_more_features_than_are_held_are_read_shard_by_shard(
    here: Here, two_shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feature_rows, "HELD_BYTES", 0)
    run = train(two_shapes, tmp_path / "run", cluster="auto", feature_store="there")
    assert here.computed
    assert any("shard by shard" in text for text in run.record.decided)
    assert run.metrics["test"]["accuracy"]["value"] > 0.9
    assert [p.label for p in ta.predict(run, two_shapes)] == [p.parent.name for p in sorted(two_shapes.rglob("*.png"))]


def test_a_shard_has_the_parts_that_are_asked_for_and_the_order_of_the_keys(tmp_path: Path) -> None:
    store = Storage(tmp_path)
    features = np.arange(40, dtype=np.float16).reshape(8, 5)
    for rows in ([5, 0, 2], [1, 3, 4, 6, 7]):
        write_shard(store, "b", [f"k{row}" for row in rows], features[rows], WIDTHS)
    found = Index(store, "b").sharded([f"k{row}" for row in (7, 0, 5, 0)], WIDTHS)
    assert np.array_equal(found.held(), features[[7, 0, 5, 0]])
    parts = dict(zip(*map(list, zip(*_read(found, [slice(3, 5)]), strict=True)), strict=True))
    assert parts == {0: [38, 39], 1: [3, 4], 2: [28, 29], 3: [3, 4]}


def _read(found: Sharded, columns: list[slice]) -> list[tuple[int, list[float]]]:
    shards = found.map(lambda rows, features: zip(rows.tolist(), features.tolist(), strict=True), columns)
    return [pair for shard in shards for pair in shard]


def test_a_damaged_shard_is_computed_anew_or_named(tmp_path: Path) -> None:
    store, keys = Storage(tmp_path), ["a", "b"]
    features = np.full((2, 5), 1.5, np.float16)
    name = write_shard(store, "x", keys, features, WIDTHS)
    whole = store.read(f"x/{name}")
    store.write(f"x/{name}", whole[: len(whole) // 2])
    assert "a" not in Index(store, "x")

    store.write(f"x/{name}", whole.replace(features[:1, :2].tobytes(), b"\0\0\0\0", 1))
    found = Index(store, "x").sharded(keys, WIDTHS)
    with pytest.raises(SourceError, match=f"{shard_name(keys)}.*checksum.*remove it"):
        found.held()


def test_what_a_cluster_cannot_do_is_refused_before_any_image_is_read(two_shapes: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="give --feature-store"):
        ta.train(two_shapes, cluster="auto", out=tmp_path / "run")
    with pytest.raises(ConfigError, match="cnn is trained from scratch"):
        ta.train(two_shapes, cluster="auto", feature_store=tmp_path, model="cnn", out=tmp_path / "run")
    with pytest.raises(ConfigError, match="--time or --cluster"):
        ta.train(two_shapes, cluster="auto", feature_store=tmp_path, time=60, out=tmp_path / "run")
    with pytest.raises(ConfigError, match="Give both"):
        ta.train(two_shapes, feature_store=tmp_path, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
