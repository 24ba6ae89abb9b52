"""What `predict --cluster` does on each machine, without a cluster: plan, parts, storage."""

from __future__ import annotations

import io
import os
import socket
import tarfile
import threading
import zipfile
from hashlib import sha256
from pathlib import Path

import pytest

import tellapart as ta
from tellapart.cluster.answers import MODEL, PartPredictor, Work, columns, counts_of
from tellapart.cluster.connection import connected
from tellapart.cluster.inputs import Given, Item, find_items
from tellapart.cluster.plan import Plan
from tellapart.cluster.predict import _begin
from tellapart.cluster.storage import Storage
from tellapart.errors import ConfigError, SourceError
from tellapart.files import printable
from tests.data.shards import tar_of

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")
fsspec = pytest.importorskip("fsspec")


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path / "answers")


@pytest.fixture
def images(two_shapes: Path) -> list[str]:
    return sorted(map(str, two_shapes.rglob("*.png")))[::12]


def answers(storage: Storage, run: Path, items: list[Item], size: int = 100) -> list[dict[str, object]]:
    """The rows of all parts, in order."""
    content = (run / "model.onnx").read_bytes()
    storage.write(MODEL, content)
    plan = Plan(storage, size)
    plan.extend(items)
    predictor = PartPredictor(Work(storage, sha256(content).hexdigest(), threads=1))
    for part in plan.parts():
        predictor({"part": [part]})
    names = [name for name in storage.names() if name.startswith("part-")]
    return [row for name in names for row in parquet.read_table(storage.path(name)).to_pylist()]


def test_a_part_has_the_rows_of_predict_and_errors_are_rows(
    storage: Storage, shapes_run: Path, images: list[str], tmp_path: Path
) -> None:
    missing = str(tmp_path / os.fsdecode(b"none\xff.png"))
    rows = answers(storage, shapes_run, list(find_items([*images, missing], Given())), size=4)
    alone = ta.predict(shapes_run, [*images, missing])
    assert [row["path"] for row in rows] == [*images, str(tmp_path / "none\\xff.png")]
    for row, one in zip(rows[:-1], alone, strict=False):
        assert list(row) == columns(("disc", "stripes"))
        assert (row["label"], row["verdict"], row["error"]) == (one.label, one.verdict, "")
        assert [row["disc"], row["probability"]] == pytest.approx(
            [one.probabilities["disc"], one.probability], abs=1e-6
        )
    assert rows[-1]["error"] == printable(alone[-1].error)
    assert rows[-1]["probability"] is None
    assert [counts_of(storage, part) for part in (0, 1)] == [(4, 0), (2, 1)]


def test_a_plan_is_extended_by_new_images_alone_wherever_they_are_in_the_list(storage: Storage) -> None:
    items = [Item(f"{number}.png", f"/{number}.png") for number in (1, 1, 2, 3, 5)]
    Plan(storage, 2).extend(iter(items))
    new = Item("4.png", "/4.png")
    plan = Plan(storage, 2)
    plan.extend([items[0], *items[2:4], new, *items[4:], items[1], items[1]])
    assert [plan.read(part) for part in plan.parts()] == [items[:2], items[2:4], items[4:], [new, items[1]]]
    plan.extend([*items, new, items[1]])
    assert len(plan.parts()) == 4


def test_a_part_is_done_once_its_answers_are_complete(storage: Storage) -> None:
    plan = Plan(storage, 1)
    plan.extend([Item("a.png", "/a.png"), Item("b.png", "/b.png")])
    storage.write("part-000001.parquet", b"")
    Path(storage.path("_draft-1-part-000000.parquet")).write_bytes(b"half")
    assert storage.names() == ["_plan", "part-000001.parquet"]
    assert plan.undone() == ([0], [1])


def test_archives_tables_of_bytes_and_lists_give_the_answers_of_their_images(
    storage: Storage, shapes_run: Path, images: list[str], tmp_path: Path
) -> None:
    contents = [Path(path).read_bytes() for path in images]
    with tarfile.open(tmp_path / "one.tar.gz", "w:gz") as shard, zipfile.ZipFile(tmp_path / "two.zip", "w") as packed:
        for number, content in enumerate(contents):
            member = tarfile.TarInfo(f"in/{number}.png")
            member.size = len(content)
            shard.addfile(member, io.BytesIO(content))
            packed.writestr(f"{number}.png", content)
        packed.writestr("__MACOSX/0.png", b"no image")
        packed.writestr("notes.txt", b"no image")
    held = {"image": [{"bytes": content, "path": None} for content in contents]}
    parquet.write_table(pyarrow.table(held), tmp_path / "held.parquet", row_group_size=2)
    parquet.write_table(pyarrow.table({"path": [os.path.relpath(p, tmp_path) for p in images]}), tmp_path / "l.parquet")

    given = Given(io.StringIO("".join(f"{path}\n" for path in images)), rows=3)
    names = [str(tmp_path / name) for name in ("one.tar.gz", "two.zip", "held.parquet", "l.parquet")]
    items = list(find_items([*names, "-"], given))
    assert [item.kind for item in items if item.alone] == ["archive", "archive", "rows", "rows"]
    rows = answers(storage, shapes_run, items)
    expected = [round(one.probability, 6) for one in ta.predict(shapes_run, images)]
    assert [round(row["probability"], 6) for row in rows] == expected * 5
    assert rows[0]["path"] == f"{names[0]}/in/0.png"
    assert [row["path"] for row in rows[10:12]] == [f"{names[2]}#1", f"{names[2]}#2"]


def test_the_shards_of_a_folder_give_the_answers_of_their_members(
    storage: Storage, shapes_run: Path, images: list[str], tmp_path: Path
) -> None:
    (tmp_path / "shards").mkdir()
    members = {f"{number}.png": Path(path).read_bytes() for number, path in enumerate(images[:3])}
    tar_of(tmp_path / "shards" / "shard-000000.tar", members | {f"{number}.cls": b"disc" for number in range(3)})
    rows = answers(storage, shapes_run, list(find_items([str(tmp_path / "shards")], Given())))
    alone = ta.predict(shapes_run, tmp_path / "shards")
    assert [(row["path"], row["label"], row["error"]) for row in rows] == [(one.path, one.label, "") for one in alone]
    assert len(rows) == 3


def test_a_damaged_shard_gives_the_rows_before_the_damage_and_an_error(
    storage: Storage, shapes_run: Path, images: list[str], tmp_path: Path
) -> None:
    with tarfile.open(tmp_path / "one.tar", "w") as shard:
        for path in images:
            shard.add(path, Path(path).name)
    whole = (tmp_path / "one.tar").read_bytes()
    cut = tmp_path / "cut.tar"
    cut.write_bytes(whole[: whole.index(Path(images[2]).name.encode()) + 700])
    rows = answers(storage, shapes_run, list(find_items([str(cut)], Given())))
    assert [bool(row["error"]) for row in rows] == [False, False, True]
    assert rows[-1]["path"] == str(cut)


def test_a_folder_in_storage_gives_its_images_and_one_that_vanished_is_a_row(
    storage: Storage, shapes_run: Path, images: list[str]
) -> None:
    bucket = fsspec.filesystem("memory")
    for number, path in enumerate(images):
        bucket.pipe_file(f"/bucket/photos/{number % 2}/{number}.png", Path(path).read_bytes())
    bucket.pipe_file("/bucket/photos/.hidden/x.png", b"")
    items = list(find_items(["memory://bucket/photos/"], Given()))
    assert [item.name for item in items][:2] == [f"memory://bucket/photos/0/{n}.png" for n in (0, 2)]
    bucket.rm_file("/bucket/photos/1/1.png")
    rows = answers(storage, shapes_run, items)
    assert [row["path"] for row in rows if row["error"]] == ["memory://bucket/photos/1/1.png"]
    assert len(rows) == len(images)
    bucket.pipe_file("/shards/1.tar", b"")
    with pytest.raises(SourceError, match=r"holds no image.*pattern: memory://shards/\*\.tar"):
        list(find_items(["memory://shards"], Given()))
    assert [item.place for item in find_items(["memory://shards/*.tar"], Given())] == ["memory:///shards/1.tar"]


def test_a_list_opens_storage_but_no_web_page() -> None:
    lines = "s3://bucket/a.jpg\nhttp://169.254.169.254/a.jpg\nsimplecache::http://host/a.jpg\nb.jpg\n"
    items = list(find_items(["-"], Given(io.StringIO(lines))))
    assert [item.kind for item in items] == ["file", "error", "file", "file"]
    assert items[2].place.startswith(os.sep), "a path of this machine"
    assert items[3].place == str(Path.cwd() / "b.jpg")


def test_answers_of_another_network_and_folders_of_something_else_are_refused(shapes_run: Path, tmp_path: Path) -> None:
    predictor = ta.open_run(shapes_run).predictor()
    out = Storage(tmp_path / "answers")
    assert _begin(out, predictor, 7) == 7
    assert _begin(out, predictor, 9) == 7, "a part keeps its size"
    out.write_json("_manifest.json", {**out.read_json("_manifest.json"), "model": "another"})
    with pytest.raises(ConfigError, match="from another network"):
        _begin(out, predictor, 7)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a.txt").write_text("mine")
    with pytest.raises(ConfigError, match="holds other files"):
        _begin(Storage(tmp_path / "full"), predictor, 7)


def test_what_is_no_cluster_is_refused_at_once() -> None:
    pytest.importorskip("ray")
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(100)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        threading.Thread(target=answer).start()
        port = server.getsockname()[1]
        for address, words in (
            ("nonsense", "is not the address of a Ray cluster"),
            (f"127.0.0.1:{port}", "is not a Ray cluster"),
            ("127.0.0.1:1", "No Ray cluster answers at 127.0.0.1:1: Connection refused"),
            ("ray://127.0.0.1:1", "No Ray cluster answers"),
        ):
            with pytest.raises(ConfigError, match=words), connected(address):
                pass


def test_storage_that_cannot_be_written_is_refused_before_anything_is_computed(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        Storage(tmp_path / "file" / "answers").require_writable()
    with pytest.raises(ConfigError, match="not an address of storage"):
        Storage("nowhere://answers")
