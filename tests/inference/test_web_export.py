"""`export --to web` in a real browser: the page predicts what tellapart predicts, without a server."""

from __future__ import annotations

import base64
import hashlib
import shutil
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

import tellapart as ta
from tellapart.data import pixels
from tellapart.errors import ExportError
from tellapart.task import ImageSpec
from tests.conftest import SHARED
from tests.inference.onnxruntime_web import npm_package

pytest.importorskip("keras")
if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

from tellapart.inference.web_export import RUNTIME_ADDRESS, RUNTIME_FILES

BUILTIN = Path(ta.__file__).parent / "data" / "builtin" / "pets"
TOLERANCE = 0.01
IMAGES = 60

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("shared_cache")]


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return npm_package(tmp_path_factory.mktemp("npm"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> ta.Run:
    return ta.train("builtin:pets", out=tmp_path_factory.mktemp("web") / "run")


Visit = Callable[..., "Page"]


@pytest.fixture(scope="module")
def visit(browser: Browser) -> Iterator[Visit]:
    """Opens a page from the disk; afterwards looks that it asked for nothing else and broke no policy."""
    opened: list[tuple[Page, list[str]]] = []

    def go(folder: Path, prepare: Callable[[Page], None] = lambda _: None, **options: Any) -> Page:
        page = browser.new_context(**options).new_page()
        page.set_default_timeout(90_000)
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: said.append(request.url) if request.url.startswith("http") else None)
        prepare(page)
        page.goto((folder / "index.html").as_uri())
        opened.append((page, said))
        return page

    yield go
    for page, said in opened:
        assert not [text for text in said if not text.startswith(RUNTIME_ADDRESS)]
        page.context.close()


@pytest.fixture(scope="module")
def page(visit: Visit, run: ta.Run, runtime: Path) -> Page:
    """With its runtime beside it, checked."""
    found = visit(ta.export(run.path, "web", runtime=runtime).path, permissions=["camera"])
    found.get_by_text("In this browser").wait_for()
    return found


@pytest.fixture(scope="module")
def small_page(shapes_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a small network, without a runtime beside it."""
    out = tmp_path_factory.mktemp("small") / "page"
    return ta.export(shapes_run, "web", out=out, quantize="int8").path


def photographs(folder: Path) -> list[Path]:
    """Real ones, and one turned by EXIF, grey, transparent and tiny."""
    found = sorted((SHARED / "pets-three-breeds").glob("*.jpg")) or sorted(BUILTIN.rglob("*.jpg"))
    few = found[:: max(1, len(found) // IMAGES)][:IMAGES]
    with Image.open(sorted(BUILTIN.rglob("*.jpg"))[0]) as image:
        turned = Image.Exif()
        turned[0x0112] = 6
        image.save(folder / "turned.jpg", exif=turned, quality=95)
        image.convert("L").save(folder / "grey.png")
        image.resize((20, 31)).save(folder / "tiny.webp", lossless=True)
        image.putalpha(Image.linear_gradient("L").resize(image.size))
        image.save(folder / "transparent.png")
    return [*few, *sorted(folder.iterdir())]


def test_the_page_predicts_from_the_disk_alone_what_tellapart_predicts(page: Page, run: ta.Run, tmp_path: Path) -> None:
    assert page.evaluate("tellapartChecked.good"), page.evaluate("tellapartChecked")
    said = page.locator("#checks").inner_text()
    assert "differ from those of the trained network by at most 0.0000" in said
    assert "4 test images differ from tellapart by at most 0.0" in said
    assert page.locator("#alert").is_hidden()
    files = photographs(tmp_path)
    page.set_input_files("#files", files)
    page.get_by_text(f"{len(files)} done", exact=True).wait_for()
    found = page.evaluate("entries.map(({answer: a}) => [a.label, a.values, a.verdict, a.distance])")
    thresholds = run.predictor().metadata.thresholds
    assert thresholds is not None
    assert thresholds.unlike is not None
    worst = 0.0
    for path, expected, (label, values, verdict, distance) in zip(files, run.predict(files), found, strict=True):
        worst = max(worst, max(abs(a - b) for a, b in zip(values, expected.probabilities.values(), strict=True)))
        assert label == expected.label, path
        assert distance == pytest.approx(expected.distance, abs=TOLERANCE)
        at_a_bound = (
            min(abs(expected.distance - thresholds.unlike), abs(expected.probability - thresholds.sure)) < TOLERANCE
        )
        assert verdict == expected.verdict or at_a_bound, path
    assert worst < TOLERANCE
    heads = page.locator("#list .answer .label").all_inner_texts()
    page.click("#clear")
    assert page.locator("#list li").count() == 0
    assert heads[0] == ("Unlike anything it was taught" if found[0][2] == "unlike" else found[0][0])


def test_the_browser_sees_the_pixels_that_python_sees(page: Page, tmp_path: Path) -> None:
    script = """async ([text, spec]) => {
        const found = await tellapartPixels.read(new Blob([decoded(text)]), spec);
        return btoa(Array.from(found, (value) => String.fromCharCode(value)).join(""));
    }"""
    files = [*photographs(tmp_path)[-5:], BUILTIN / "american_bulldog" / "american_bulldog_94.jpg"]
    for number, (fit, kind) in enumerate(
        product(("crop", "pad", "squash"), ("bilinear", "nearest", "bicubic", "lanczos"))
    ):
        spec = ImageSpec(70, 50, (1, 3)[number % 2], fit, kind)
        for path in files:
            content = path.read_bytes()
            text = page.evaluate(script, [base64.b64encode(content).decode(), spec.to_dict()])
            found = np.frombuffer(base64.b64decode(text), np.uint8).reshape(spec.shape).astype(int)
            assert np.abs(found - pixels.read(content, spec).astype(int)).mean() < 1, (path, spec)


def test_images_are_dropped_pasted_and_taken_by_the_camera_and_a_broken_one_says_why(
    page: Page, tmp_path: Path
) -> None:
    (broken := tmp_path / "broken <b>.jpg").write_bytes(b"\xff\xd8\xff no image")
    page.set_input_files("#files", broken)
    page.get_by_text("Could not be predicted: this browser cannot read it as an image.").wait_for()
    content = base64.b64encode((next(BUILTIN.rglob("*.jpg"))).read_bytes()).decode()
    for event in ("drop", "paste"):
        page.evaluate(
            """([kind, text]) => {
                const given = new DataTransfer();
                given.items.add(new File([decoded(text)], `${kind}.jpg`, {type: "image/jpeg"}));
                document.dispatchEvent(kind === "drop"
                    ? new DragEvent(kind, {dataTransfer: given, cancelable: true})
                    : new ClipboardEvent(kind, {clipboardData: given}));
            }""",
            [event, content],
        )
    page.get_by_text("3 done", exact=True).wait_for()
    page.click("#camera")
    page.locator("#live-bars li").first.wait_for()
    page.click("#shoot")
    page.get_by_text("4 done", exact=True).wait_for()
    page.click("#camera-close")
    page.wait_for_function("() => document.getElementById('video').srcObject === null")
    names = page.locator("#list .name").all_inner_texts()
    assert names[:3] == ["broken <b>.jpg", "drop.jpg", "paste.jpg"]
    assert names[3].startswith("camera ")
    with page.expect_download() as download:
        page.click("#download")
    text = Path(download.value.path()).read_text(encoding="utf-8-sig")
    assert text.startswith("image,label,verdict,probability,distance,")
    assert len(text.splitlines()) == 5


def test_the_public_runtime_is_loaded_only_if_it_is_what_it_should_be(
    visit: Visit, browser: Browser, small_page: Path, runtime: Path
) -> None:
    for name, digest in RUNTIME_FILES.items():
        content = (runtime / "dist" / name).read_bytes()
        assert digest == f"sha384-{base64.b64encode(hashlib.sha384(content).digest()).decode()}"
    page = visit(small_page, lambda page: serve(page, runtime))
    page.get_by_text("In this browser").wait_for()
    assert page.evaluate("tellapartChecked.good")
    assert "on average" in page.locator("#checked").inner_text()
    tampered = browser.new_page()
    serve(tampered, runtime, b" ")
    tampered.goto((small_page / "index.html").as_uri())
    tampered.get_by_text("The network cannot be loaded").wait_for()
    tampered.close()


def serve(page: Page, runtime: Path, more: bytes = b"") -> None:
    """Answer what is asked of the public address."""

    def answer(route: Any) -> None:
        content = (runtime / "dist" / route.request.url.rsplit("/", 1)[1]).read_bytes()
        content += more if route.request.url.endswith(".mjs") else b""
        route.fulfill(body=content, headers={"Access-Control-Allow-Origin": "*"})

    page.route(f"{RUNTIME_ADDRESS}**", answer)


def test_a_page_that_sees_other_pixels_says_so(visit: Visit, small_page: Path, runtime: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(small_page, tmp_path / "page")
    script = (folder / "pixels.js").read_text(encoding="utf-8")
    assert "const [across, down] = [steps" in script
    script = script.replace("steps[1] / factors[1]];", "1.1 * steps[1] / factors[1]];")
    (folder / "pixels.js").write_text(script, encoding="utf-8")
    page = visit(folder, lambda page: serve(page, runtime))
    page.get_by_text("This browser does not give the predictions of tellapart").wait_for()


def test_a_runtime_that_is_not_there_or_not_taken_is_told(shapes_run: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="npm install onnxruntime-web"):
        ta.export(shapes_run, "web", runtime=tmp_path, out=tmp_path / "page")
    with pytest.raises(ExportError, match="brings no runtime"):
        ta.export(shapes_run, "onnx", runtime=tmp_path)
    assert list(tmp_path.iterdir()) == []
