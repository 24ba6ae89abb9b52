"""What the server answers to images, sent in every way it takes."""

from __future__ import annotations

import base64
import io
import json
import math
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import numpy as np
import pytest
from PIL import Image

import tellapart as ta
from tellapart.data.pixels import read
from tellapart.explain.heat import class_heat
from tellapart.serve.heat import place
from tellapart.task import Fit, ImageSpec

if TYPE_CHECKING:
    from tests.serve.conftest import Server

JPEG = {"content-type": "image/jpeg"}
TOLERANCE = 2e-4  # batches of other sizes add in another order


def same(found: dict[str, object], expected: ta.Prediction) -> None:
    assert found["label"] == expected.label
    assert found["probability"] == pytest.approx(expected.probability, abs=TOLERANCE)
    assert found["probabilities"] == pytest.approx(expected.probabilities, abs=TOLERANCE)
    assert found["verdict"] == (expected.verdict or None)
    if math.isnan(expected.distance):
        assert found["distance"] is None
    else:
        assert found["distance"] == pytest.approx(expected.distance, abs=TOLERANCE)


def as_json(files: list[tuple[str, bytes]]) -> str:
    return json.dumps({"images": [{"name": n, "data": base64.b64encode(d).decode()} for n, d in files]})


def test_a_raw_image_is_predicted_as_the_predictor_does(
    client: httpx.Client, run: ta.Run, photographs: list[Path]
) -> None:
    for path, expected in zip(photographs[:5], run.predict(photographs[:5]), strict=True):
        answer = client.post("/v1/predict", content=path.read_bytes(), headers={"content-type": "image/jpeg"})
        assert answer.status_code == 200
        assert answer.json()["run"] == "two"
        (found,) = answer.json()["predictions"]
        same(found, expected)


def test_files_of_a_form_keep_their_order_and_names(client: httpx.Client, run: ta.Run, photographs: list[Path]) -> None:
    chosen = photographs[:4]
    names = ["a b.jpg", "../../etc/passwd", "köter ß.jpg", '"quoted".jpg']
    files = [("images", (name, path.read_bytes())) for name, path in zip(names, chosen, strict=True)]
    found = client.post("/v1/predict", files=files).json()["predictions"]
    assert [row["name"] for row in found][:3] == names[:3]
    for row, expected in zip(found, run.predict(chosen), strict=True):
        same(row, expected)


def test_json_with_base64_gives_the_same(client: httpx.Client, run: ta.Run, photographs: list[Path]) -> None:
    body = as_json([("one", photographs[0].read_bytes()), ("two", photographs[1].read_bytes())])
    answer = client.post("/v1/predict", content=body, headers={"content-type": "application/json; charset=utf-8"})
    found = answer.json()["predictions"]
    assert [row["name"] for row in found] == ["one", "two"]
    for row, expected in zip(found, run.predict(photographs[:2]), strict=True):
        same(row, expected)


def test_runs_are_chosen_by_name(client: httpx.Client, other_run: ta.Run, photographs: list[Path]) -> None:
    (expected,) = other_run.predict(photographs[0])
    body = photographs[0].read_bytes()
    answer = client.post("/v1/predict?run=three", content=body, headers={"content-type": "image/jpeg"}).json()
    assert answer["run"] == "three"
    same(answer["predictions"][0], expected)
    wrong = client.post("/v1/predict?run=thre", content=body, headers={"content-type": "image/jpeg"})
    assert wrong.status_code == 404
    assert "Did you mean 'three'" in wrong.json()["error"]
    shown = client.get("/v1/runs").json()
    assert [(row["name"], row["classes"]) for row in shown["runs"]] == [
        ("two", ["disc", "stripes"]),
        ("three", ["disc", "square", "stripes"]),
    ]


def test_two_runs_of_one_name_can_be_told_apart(serve: Callable[..., Server], run: ta.Run, other_run: ta.Run) -> None:
    found = serve(f"first={run.path}", f"second={other_run.onnx_file}")
    with found.client() as client:
        assert [row["name"] for row in client.get("/v1/runs").json()["runs"]] == ["first", "second"]


def test_a_broken_image_among_good_ones_is_a_row_with_its_error(
    client: httpx.Client, run: ta.Run, photographs: list[Path]
) -> None:
    good = photographs[0].read_bytes()
    files = [("p", ("good", good)), ("p", ("cut", good[: len(good) // 2])), ("p", ("text", b"no image at all"))]
    answer = client.post("/v1/predict", files=files)
    assert answer.status_code == 200
    first, cut, text = answer.json()["predictions"]
    same(first, run.predict(photographs[0])[0])
    assert cut == {"name": "cut", "error": cut["error"]}
    assert cut["error"].startswith("truncated")
    assert text["error"].startswith("not an image")


def test_a_request_without_any_good_image_is_422_and_says_why(client: httpx.Client) -> None:
    answer = client.post("/v1/predict", content=b"GIF89a", headers={"content-type": "image/gif"})
    assert answer.status_code == 422
    assert answer.json()["predictions"][0]["error"]


def test_orientation_and_colour_modes_take_the_one_road(
    client: httpx.Client, run: ta.Run, tmp_path: Path, encoded: Callable[..., bytes]
) -> None:
    rng = np.random.default_rng(5)
    image = Image.fromarray(rng.integers(0, 255, (60, 90, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = encoded(image, "JPEG", exif=exif)
    grey = encoded(image.convert("L"), "PNG")
    deep = encoded(Image.fromarray(rng.integers(0, 65535, (40, 40)).astype(np.uint16)), "PNG")
    for number, data in enumerate((turned, grey, deep)):
        path = tmp_path / str(number)
        path.write_bytes(data)
        answer = client.post("/v1/predict", content=data, headers={"content-type": "application/octet-stream"})
        same(answer.json()["predictions"][0], run.predict(path)[0])


def test_sixty_four_clients_get_their_own_answers(server: Server, run: ta.Run, photographs: list[Path]) -> None:
    chosen = photographs[:20]
    expected = run.predict(chosen)
    gate = threading.Barrier(64)

    def ask(number: int) -> list[tuple[int, dict[str, object]]]:
        with server.client() as own:
            gate.wait()
            found = []
            for step in range(5):
                which = (number + 7 * step) % len(chosen)
                answer = own.post(
                    "/v1/predict", content=chosen[which].read_bytes(), headers={"content-type": "image/jpeg"}
                )
                assert answer.status_code == 200, answer.text
                found.append((which, answer.json()["predictions"][0]))
            return found

    with ThreadPoolExecutor(64) as pool:
        for found in pool.map(ask, range(64)):
            for which, row in found:
                same(row, expected[which])
    batches = server.figure("tellapart_batch_images_count")
    assert batches < server.figure("tellapart_batch_images_sum"), "no batch held images of two clients"


def test_health_readiness_metrics_and_the_description(client: httpx.Client) -> None:
    assert client.get("/healthz").json() == {"status": "alive"}
    assert client.get("/readyz").json() == {"status": "ready"}
    client.get("/nowhere")
    text = client.get("/metrics").text
    assert 'tellapart_requests_total{route="other",status="404"}' in text
    assert "nowhere" not in text
    described = client.get("/openapi.json").json()
    assert set(described["paths"]) == {"/v1/predict", "/v1/runs", "/healthz", "/readyz", "/metrics"}
    kinds = described["paths"]["/v1/predict"]["post"]["requestBody"]["content"]
    assert set(kinds) == {"multipart/form-data", "image/*", "application/json"}


@pytest.mark.parametrize("name", ["two", "three"])
def test_explain_adds_the_heat_of_the_label_and_where_it_lies(
    client: httpx.Client, run: ta.Run, other_run: ta.Run, photographs: list[Path], name: str
) -> None:
    chosen = {"two": run, "three": other_run}[name]
    spec = chosen.spec
    path = photographs[0]
    assert (
        client.post(f"/v1/predict?run={name}", content=path.read_bytes(), headers=JPEG)
        .json()["predictions"][0]
        .get("heat")
        is None
    )
    files = [("p", (path.name, path.read_bytes())), ("p", ("bad", b"bad"))]
    good, bad = client.post(f"/v1/predict?run={name}&explain=1", files=files).json()["predictions"]
    assert "heat" not in bad
    heat = np.asarray(Image.open(io.BytesIO(base64.b64decode(good["heat"]["png"]))))
    pixels = read(path, spec)
    (expected,) = class_heat(chosen, pixels[None], np.array([chosen.task.index(good["label"])]))
    assert heat.shape == (spec.height, spec.width)
    assert np.abs(heat / 255 - expected).max() < 0.01
    with Image.open(path) as image:
        width, height = image.size
    sides = tuple(good["heat"][side] for side in ("left", "top", "right", "bottom"))
    assert sides == pytest.approx(place(spec, width, height), abs=1e-5)
    assert client.get("/v1/runs").json()["runs"][0]["heat"] in ("class activation", "occlusion")


@pytest.mark.parametrize("fit", ["squash", "crop", "pad"])
@pytest.mark.parametrize("size", [(300, 100), (100, 300), (123, 77)])
def test_the_place_of_heat_is_where_the_pixels_came_from(fit: Fit, size: tuple[int, int]) -> None:
    width, height = size
    spec = ImageSpec(60, 90, 1, fit)
    left, top, right, bottom = place(spec, width, height)
    for across, down in ((0.5, 0.5), (0.4, 0.6), (0.58, 0.45)):
        # A dot at this place of the image is seen where the place says.
        canvas = np.zeros((height, width), np.uint8)
        y, x = np.mgrid[:height, :width]
        canvas[np.hypot(x - across * width, y - down * height) < 7] = 255
        seen = read(canvas, spec)[..., 0].astype(float)
        rows, columns = np.mgrid[: spec.height, : spec.width] + 0.5
        centre = (columns * seen).sum() / seen.sum() / spec.width, (rows * seen).sum() / seen.sum() / spec.height
        assert left + centre[0] * (right - left) == pytest.approx(across, abs=0.02)
        assert top + centre[1] * (bottom - top) == pytest.approx(down, abs=0.02)
