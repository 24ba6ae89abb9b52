"""The studio towards strangers, and what it loads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import tellapart as ta
from tellapart.config import Config
from tellapart.data.catalog import SPLITS, Catalog, ImageRecord
from tellapart.runs.predictions import Predictions
from tellapart.serve.middleware import Access
from tellapart.studio.app import application
from tellapart.studio.browse import NOWHERE, ON_MAP, Index, Query
from tellapart.studio.session import Session
from tellapart.studio.thumbnails import Thumbnails
from tellapart.task import Task

testclient = pytest.importorskip("starlette.testclient")


@pytest.fixture(scope="module")
def client(shapes_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[testclient.TestClient]:
    session = Session(str(shapes_run), tmp_path_factory.mktemp("studio") / "c.csv", Config())
    session.begin = session.read  # type: ignore[method-assign]  # doubts are the matter of other tests
    with testclient.TestClient(application(session, Access()), base_url="http://127.0.0.1") as found:
        yield found


def test_other_hosts_and_origins_are_refused_and_the_page_may_load_only_its_own(client: testclient.TestClient) -> None:
    assert client.get("/v1/state").status_code == 200
    assert client.get("/v1/state", headers={"host": "evil.example"}).status_code == 403
    answer = client.post("/v1/undo", json={"version": 0}, headers={"origin": "https://evil.example"})
    assert answer.status_code == 403
    policy = client.get("/").headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/decisions", b"no json", 400),
        ("/v1/decisions", b"[]", 400),
        ("/v1/decisions", b'{"version": 0, "doubts": ["nothing"], "action": "drop"}', 400),
        ("/v1/decisions", b'{"version": 0, "doubts": [], "action": "delete"}', 400),
        ("/v1/decisions", b'{"version": 0, "doubts": [], "action": "relabel", "label": "cow"}', 400),
        ("/v1/decisions", b'{"version": 0, "doubts": [], "action": "drop", "images": [99999]}', 404),
        ("/v1/undo", b'{"version": "0"}', 400),
        ("/v1/undo", b'{"version": 7}', 409),
        ("/v1/train", b"{}", 400),
        ("/v1/undo", b"x" * 1_000_001, 413),
    ],
)
def test_what_makes_no_sense_is_refused_in_words_and_decides_nothing(
    client: testclient.TestClient, path: str, body: bytes, status: int
) -> None:
    answer = client.post(path, content=body)
    assert answer.status_code == status
    assert answer.json()["error"]
    assert client.get("/v1/state").json()["made"] == 0


@pytest.mark.parametrize(
    "path",
    [
        "/v1/images?lasso=1,2", "/v1/images?lasso=a,b c,d e,f", "/heat/99999",
        "/v1/images?sort=colour", "/v1/images?split=tests", "/v1/images?start=-1", "/v1/images?count=x",
        "/v1/images?start=9999999999999", "/v1/images/99999", "/pixels/0/333/x", "/pixels/99999/160/x",
        "/v1/doubts/nothing", "/nothing",
    ],
)  # fmt: skip
def test_an_address_of_nothing_is_an_error_of_the_client(client: testclient.TestClient, path: str) -> None:
    assert 400 <= client.get(path).status_code < 500


def test_an_image_that_changed_is_not_shown(client: testclient.TestClient, shapes_run: Path) -> None:
    catalog = ta.open_run(shapes_run).catalog
    file = catalog.root / catalog.images[0].path
    content = file.read_bytes()
    assert client.get("/pixels/0/1024/x").status_code == 200
    try:
        file.write_bytes(content + b"!")
        assert client.get("/pixels/0/1024/x").status_code == 404
    finally:
        file.write_bytes(content)


def test_a_report_of_a_stranger_runs_no_script_here(client: testclient.TestClient) -> None:
    answer = client.get("/report")
    assert answer.status_code == 200
    assert answer.headers["content-security-policy"].startswith("sandbox; default-src 'none'")


def test_small_images_are_made_once_and_the_oldest_give_way(tmp_path: Path) -> None:
    kept = Thumbnails(tmp_path, limit=400_000)
    for number in range(60):
        kept.put(str(number), bytes(10_000), "image/png")
    kept.close()
    again = Thumbnails(tmp_path)
    assert again.get("59") == (bytes(10_000), "image/png")
    assert again.get("0") is None
    assert sum(again.get(str(number)) is not None for number in range(60)) > 20
    again.close()
    assert again.get("59") is None
    (tmp_path / "thumbnails.sqlite").write_bytes(b"no database" * 1000)
    mended = Thumbnails(tmp_path)
    mended.put("a", b"x", "image/png")
    assert mended.get("a") == (b"x", "image/png")
    mended.close()


def test_a_hundred_thousand_images_are_filtered_and_sorted_as_numpy_says() -> None:
    count, classes = 100_000, ("a", "b", "c")
    generator = np.random.default_rng(0)
    splits = generator.integers(0, 3, count)
    labels = generator.integers(0, 3, count)
    images = tuple(
        ImageRecord(f"Folder/{i}.jpg", classes[label], SPLITS[split], width=10 + i % 7, height=10)
        for i, (label, split) in enumerate(zip(labels.tolist(), splits.tolist(), strict=True))
    )
    tests = np.flatnonzero(splits == 2)
    said = generator.dirichlet(np.ones(3), len(tests))
    predictions = Predictions(tuple(images[i].path for i in tests), labels[tests], said)
    index = Index(Catalog(Path(), Task(classes), images), predictions)
    found = index.find(Query.of({"truth": "b", "right": "no", "sort": "-loss", "other": "x"}))
    wrong = tests[(labels[tests] == 1) & (said.argmax(axis=1) != 1)]
    assert set(found.tolist()) == set(wrong.tolist())
    losses = [index.row(int(place))["loss"] for place in found[:50]]
    assert losses == sorted(losses, reverse=True)
    assert len(index.find(Query(text="FOLDER/9999"))) == 11
    unsorted = index.find(Query(sort="confidence"))
    assert set(unsorted[: len(tests)].tolist()) == set(tests.tolist())  # those without an answer come last
    assert np.sum(index.confusion(Query())) == len(tests)
    where = generator.uniform(size=(count, 2))
    where[7] = np.nan
    total, pairs = index.confused(Query())
    table = np.array(index.confusion(Query()))
    assert total == 6
    assert [one["count"] for one in pairs] == sorted(table[~np.eye(3, dtype=bool)].tolist(), reverse=True)
    first = pairs[0]
    assert first["count"] == table[classes.index(first["truth"]), classes.index(first["answer"])]
    assert first["of"] == table[classes.index(first["truth"])].sum()
    named = index.confused(Query(), "B", 3)
    assert named[0] == 4
    assert len(named[1]) == 3
    assert all("b" in (one["truth"], one["answer"]) for one in named[1])
    index.spread({image.path: (x, y) for image, (x, y) in zip(images, where.tolist(), strict=True) if x == x}, "axes")
    drawn = index.find(Query.of({"lasso": "200,300 700,300 700,600 200,600", "truth": "a"}))
    held = ((where > (0.2, 0.3)) & (where < (0.7, 0.6))).all(axis=1)
    assert set(drawn.tolist()) == set(np.flatnonzero(held & (labels == 0)).tolist())
    told = np.frombuffer(index.map(), ON_MAP)
    assert told["x"][7] == NOWHERE
    assert np.abs(told["x"][8:] / (NOWHERE - 1) - where[8:, 0]).max() < 1e-4
    assert (told["truth"] == labels).all()
    assert set(told["right"][tests].tolist()) == {0, 1}
