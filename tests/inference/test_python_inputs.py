"""`predict` takes what people hold, answers the same by every way, and says what it cannot take."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

import tellapart as ta
from tellapart.cli.console import json_text
from tellapart.errors import ConfigError, MissingExtraError, SourceError
from tellapart.inference.prediction import Prediction
from tellapart.serve.schemas import row
from tests.command import call
from tests.conftest import draw
from tests.server import Files, serving

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "predict.md"
MODES = ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "YCbCr", "HSV", "I", "F", "I;16", "La", "RGBa", "RGBX"]


@pytest.fixture(scope="module")
def run(shapes_run: Path) -> ta.Run:
    return ta.open_run(shapes_run)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A photograph as a telephone leaves it: a JPEG far larger than the network's image, lying on its side."""
    path = tmp_path_factory.mktemp("image") / "disc 1.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    draw("disc", 1, 300).crop((0, 0, 300, 220)).save(path, quality=90, exif=exif)
    return path


@pytest.fixture(scope="module")
def png(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("png") / "stripes.png"
    draw("stripes", 2, 70).crop((0, 0, 70, 50)).save(path)
    return path


def loaded(path: Path) -> Image.Image:
    with Image.open(path) as image:
        image.load()
        return image.copy()


def series(path: Path) -> Any:
    return pytest.importorskip("pandas").Series([str(path)], index=["x"])


def frame(path: Path) -> Any:
    return pytest.importorskip("pandas").DataFrame({"n": [1], "image_path": [str(path)]})


def table(path: Path) -> Path:
    made = path.with_suffix(".csv")
    made.write_text(f"number,file\n1,{path.name}\n", encoding="utf-8")
    return made


FILE_WAYS: dict[str, Callable[[Path], Any]] = {
    "its path as text": str,
    "a folder's pattern": lambda path: str(path.parent / f"*{path.suffix}"),
    "a list of paths": lambda path: [path],
    "paths that a generator gives": lambda path: (each for each in [path]),
    "an array of paths": lambda path: np.array([str(path)]),
    "bytes": Path.read_bytes,
    "a bytearray": lambda path: bytearray(path.read_bytes()),
    "an open file": lambda path: path.open("rb"),
    "a file in memory": lambda path: [io.BytesIO(path.read_bytes())],
    "an image that Pillow has opened": Image.open,
    "a column of a DataFrame": series,
    "a DataFrame": frame,
    "a table of names": table,
}
PIXEL_WAYS: dict[str, Callable[[Path], Any]] = {
    "an image of Pillow in memory": loaded,
    "an array": lambda path: np.asarray(loaded(path)),
    "an array that is no whole block of memory": lambda path: np.asarray(loaded(path))[:, ::-1][:, ::-1],
    "a batch": lambda path: np.asarray(loaded(path))[None],
    "a list of arrays": lambda path: [np.asarray(loaded(path))],
    "an array with transparency": lambda path: np.asarray(loaded(path).convert("RGBA")),
}


@pytest.mark.parametrize("way", FILE_WAYS)
def test_a_photograph_is_answered_the_same_by_every_way_that_holds_its_file(way: str, run: ta.Run, image: Path) -> None:
    (expected,) = run.predict(image)
    held = FILE_WAYS[way](image)
    (found,) = ta.predict(run, held)
    assert (found.error, found.probabilities) == ("", expected.probabilities)
    assert found.distance == expected.distance
    if hasattr(held, "close"):
        held.close()


@pytest.mark.parametrize("way", {**FILE_WAYS, **PIXEL_WAYS})
def test_the_same_pixels_are_answered_the_same_by_every_way(way: str, run: ta.Run, png: Path) -> None:
    (expected,) = run.predict(png)
    held = {**FILE_WAYS, **PIXEL_WAYS}[way](png)
    (found,) = run.predictor().predict(held)
    assert (found.error, found.probabilities) == ("", expected.probabilities)
    if hasattr(held, "close"):
        held.close()


def test_an_address_is_answered_as_the_file_there(run: ta.Run, image: Path) -> None:
    with serving(Files({"/a%20photo.jpg?size=full&x=%C3%BC": image.read_bytes()})) as files:
        named = f"{files.address}/a photo.jpg?size=full&x=ü"
        found = ta.predict(run, [image, named])
    assert (found[1].error, found[1].path) == ("", named)
    assert found[1].probabilities == found[0].probabilities


def test_an_image_of_pillow_stands_upright_as_its_exif_says(run: ta.Run, image: Path) -> None:
    held = loaded(image)
    assert held.getexif()[0x0112] == 6
    upright = Image.fromarray(np.rot90(np.asarray(held), -1))
    found, expected, lying = run.predict([held, upright, np.asarray(held)])
    assert found.probabilities == pytest.approx(expected.probabilities, abs=1e-6)
    assert lying.probabilities != pytest.approx(expected.probabilities, abs=1e-6)


@pytest.mark.parametrize("mode", MODES)
def test_an_image_of_pillow_may_have_any_mode(mode: str, run: ta.Run, tmp_path: Path) -> None:
    image = draw("disc", 4)
    if mode == "I;16":
        made = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    elif mode in ("La", "RGBa"):
        made = image.convert("LA" if mode == "La" else "RGBA").convert(mode)
    else:
        made = image.convert(mode)
    if "A" in made.mode:
        made.putalpha(Image.linear_gradient("L").resize(made.size))
    (found,) = run.predict(made)
    assert found.error == ""
    if mode in ("1", "L", "P", "RGB", "RGBA", "LA", "I;16"):
        made.save(tmp_path / "same.png")
        assert found.probabilities == run.predict(tmp_path / "same.png")[0].probabilities


def test_grey_arrays_and_batches_are_images_each(run: ta.Run) -> None:
    grey = np.asarray(draw("disc", 5).convert("L"))
    expected = run.predict(Image.fromarray(grey))[0].probabilities
    found = run.predict([grey, grey[..., None], np.stack([grey, grey])[..., None]])
    assert [each.path for each in found] == ["image 0", "image 1", "image 2", "image 3"]
    assert all(each.probabilities == expected for each in found)


def test_what_is_given_together_is_answered_in_its_order_with_its_names(run: ta.Run, png: Path) -> None:
    pixels = np.asarray(loaded(png))
    with png.open("rb") as file, Image.open(png) as image:
        found = run.predict([pixels, png, file, png.read_bytes(), image, "nowhere.jpg", None])
    assert [each.path for each in found] == [
        "image 0", str(png), str(png), "image 3", str(png), "nowhere.jpg", "image 6",
    ]  # fmt: skip
    assert [bool(each.error) for each in found] == [False] * 5 + [True] * 2
    assert found[6].error == "not an image: the row names no image"


def test_an_array_with_transparency_lies_over_white_as_its_file_does(run: ta.Run, tmp_path: Path) -> None:
    image = draw("disc", 6).convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    image.save(tmp_path / "cut out.png")
    from_file, from_array, hidden = run.predict(
        [tmp_path / "cut out.png", np.asarray(image), np.asarray(image)[..., :3]]
    )
    assert from_array.probabilities == from_file.probabilities != hidden.probabilities


TENSOR = type("Tensor", (), {"__module__": "torch", "__array__": lambda _: np.zeros(3)})
REFUSED: dict[str, tuple[Any, str]] = {
    "floats": (np.zeros((8, 8, 3)), r"array of float64; expected uint8, 0\.\.255\. \(array \* 255\)\.round\(\)"),
    "sixteen bits": (np.zeros((8, 8), np.uint16), r"\(array // 257\)\.astype\('uint8'\)"),
    "booleans": (np.zeros((8, 8), bool), r"array\.astype\('uint8'\) \* 255"),
    "channels first": (np.zeros((3, 8, 8), np.uint8), r"channels come first: array\.transpose\(1, 2, 0\)"),
    "a batch with channels first": (np.zeros((2, 3, 8, 8), np.uint8), r"array\.transpose\(0, 2, 3, 1\)"),
    "a batch of grey": (np.zeros((5, 8, 8), np.uint8), r"several grey images: array\[\.\.\., None\]"),
    "two channels": (np.zeros((8, 8, 2), np.uint8), r"shape \(8, 8, 2\); expected \(h, w\)"),
    "one number": (np.uint8(3), r"Given a uint8 of numpy"),
    "a tensor": (TENSOR(), r"Given a Tensor of torch\. tensor\.permute\(1, 2, 0\)\.cpu\(\)\.numpy\(\)"),
    "a list of tensors": ([TENSOR()], r"Given a Tensor of torch"),
    "text": (io.StringIO("a"), r"does not return bytes\. Open it in mode 'rb'"),
    "a dictionary": ({"a": 1}, r"Given dict as an image\. Accepted: paths of files, folders"),
    "a number": (7, r"Given int as an image"),
    "lists in lists": ([[1, 2]], r"Given a list inside another"),
    "a file by its address": ("file:///etc/hostname", r"az:// and hf://\. Give a local file by"),
    "a server of files": (["ftp://host/a.jpg"], r"is not a supported kind of URL"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_taken_is_told_with_what_can(name: str, run: ta.Run) -> None:
    given, says = REFUSED[name]
    with pytest.raises(SourceError, match=says):
        run.predict(given)


def test_an_asynchronous_upload_is_told_to_be_read_first(run: ta.Run) -> None:
    async def read(_: int) -> bytes:
        return b""

    with pytest.raises(SourceError, match="asynchronous upload"):
        run.predict(SimpleNamespace(read=read))


def test_a_frame_without_a_usual_column_is_told_and_one_may_be_named(run: ta.Run, png: Path) -> None:
    pandas = pytest.importorskip("pandas")
    held = pandas.DataFrame({"where": [str(png), None, ""]})
    with pytest.raises(SourceError, match=r"The DataFrame has the columns 'where'.*path_column=NAME"):
        run.predict(held)
    first, *others = ta.predict(run, held, path_column="where")
    assert not first.error
    assert [each.error for each in others] == ["not an image: the row names no image"] * 2
    (below,) = ta.predict(run, pandas.Series([png.name]), root=png.parent)
    assert below.probabilities == first.probabilities


def test_what_is_said_of_a_table_is_refused_where_there_is_none(run: ta.Run, png: Path) -> None:
    refused = call("predict", run.path, png, "--root", png.parent)
    assert refused.returncode == 2
    assert "apply to a table of paths, but no table is named" in " ".join(refused.stderr.split())
    with pytest.raises(ConfigError, match="no table is named"):
        run.predict(png, path_column="path")


def test_a_table_of_paths_is_read_as_one_says(run: ta.Run, png: Path, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("where;x\nstripes.png;1\n;2\nnowhere.png;3\nstripes;4\n", encoding="utf-8")
    missing = call("predict", run.path, tmp_path / "list.csv")
    assert missing.returncode == 2
    assert "--path-column NAME" in missing.stderr
    named = ("--path-column", "where", "--root", png.parent, "--format", "json")
    found = call("predict", run.path, tmp_path / "list.csv", *named)
    assert found.returncode == 1, "two rows are errors"
    rows = json.loads(found.stdout)
    assert [each["path"] for each in rows] == ["stripes.png", "row 2 of list.csv", "nowhere.png", "stripes"]
    assert rows[0] == {**rows[3], "path": "stripes.png"} == {**run.predict(png)[0].to_dict(), "path": "stripes.png"}
    again = ta.predict(run, tmp_path / "list.csv", path_column="where", root=png.parent)
    assert [each.to_dict() for each in again] == rows


def test_a_file_of_another_kind_says_what_to_do_unless_it_is_an_image_all_the_same(
    run: ta.Run, png: Path, tmp_path: Path
) -> None:
    (tmp_path / "list.xls").write_bytes(b"PK\x03\x04 and so on")
    shutil.copyfile(png, tmp_path / "photo.json")
    table, photo = run.predict([tmp_path / "list.xls", tmp_path / "photo.json"])
    assert "an old Excel or an OpenDocument table, which is not supported. Save it as" in table.error
    assert photo.probabilities == run.predict(png)[0].probabilities


def test_addresses_that_somebody_wrote_into_a_table_or_a_list_are_not_opened(run: ta.Run, tmp_path: Path) -> None:
    with serving(Files()) as files:
        (tmp_path / "list.csv").write_text(f"path\n{files.address}/a.jpg\n", encoding="utf-8")
        (found,) = run.predict(tmp_path / "list.csv")
        assert "URLs in a table are not opened; give it as an argument" in found.error
        piped = call("predict", run.path, "-", stdin=f"{files.address}/b.jpg\n")
        assert "URLs on standard input are not opened" in piped.stdout
        assert files.asked == []


def test_the_bounds_of_a_run_hold_when_it_predicts(run: ta.Run, png: Path, tmp_path: Path) -> None:
    changed = ta.open_run(shutil.copytree(run.path, tmp_path / "run"))
    text = changed.config_file.read_text()
    size = png.stat().st_size
    for key, value, reason in (("max_bytes", size - 1, "too many bytes"), ("max_pixels", 3499, "too many pixels")):
        bound = next(line for line in text.splitlines() if line.startswith(key))
        changed.config_file.write_text(text.replace(bound, f"{key} = {value}"))
        for way in (png, png.read_bytes(), io.BytesIO(png.read_bytes())):
            assert changed.predict(way)[0].error.startswith(f"{reason}: ")
        assert reason in call("predict", changed.path, png).stdout
        with pytest.raises(SourceError, match=reason):
            changed.explain(png)
        changed.config_file.write_text(text.replace(bound, f"{key} = {value + 1}"))
        assert not any(each.error for each in changed.predict([png, png.read_bytes()]))
    changed.config_file.write_text(text.replace("max_bytes = 1073741824", "max_bytes = 100"))
    with pytest.raises(SourceError, match="too many bytes"):
        changed.evaluate()


def test_answers_become_a_frame_with_a_row_an_image(run: ta.Run, png: Path) -> None:
    pandas = pytest.importorskip("pandas")
    answers = run.predict([png, "nowhere.jpg"])
    frame = answers.to_frame()
    assert list(frame.columns) == [
        "path", "label", "probability", "verdict", "distance", "disc", "stripes", "warning", "error",
    ]  # fmt: skip
    assert frame["stripes"][0] == answers[0].probabilities["stripes"]
    assert pandas.isna(frame["probability"][1])
    assert frame["error"][1] == answers[1].error
    assert list(run.predict([]).to_frame().columns) == list(frame.columns)


def test_without_pandas_the_extra_is_named(run: ta.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingExtraError, match=r"tellapart\[tables\]"):
        run.predict([np.zeros((8, 8, 3), np.uint8)]).to_frame()


def test_json_is_the_same_of_python_command_and_server_and_holds_no_nan(run: ta.Run, png: Path) -> None:
    (said,) = run.predict(png)
    plain = said.to_dict()
    printed = call("predict", run.path, png, "--format", "jsonl")
    assert printed.stdout == json_text(plain) + "\n"
    sent = row(said, None)
    assert sent.pop("name") == plain["path"]
    assert sent == {key: value for key, value in plain.items() if key != "path"}
    unknown = Prediction("a.jpg", "cat", 1.0, {"cat": 1.0, "dog": 0.0})
    assert json.loads(json.dumps(unknown.to_dict(), allow_nan=False))["distance"] is None
    assert Prediction("caf\udce9.jpg", error="empty").to_dict() == {"path": "caf\\xe9.jpg", "error": "empty"}


@pytest.mark.filterwarnings("ignore:.*unclosed:ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_page_on_predicting_from_python_runs_as_it_stands(
    run: ta.Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pandas")
    shutil.copytree(run.path, tmp_path / "runs" / "pets")
    (tmp_path / "new").mkdir()
    draw("disc", 3).save(tmp_path / "new" / "cat.png")
    draw("stripes", 3).save(tmp_path / "new" / "dog.jpg")
    (tmp_path / "list.csv").write_text("path\nnew/cat.png\n", encoding="utf-8")
    programs = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    with contextlib.chdir(tmp_path):
        exec(compile("\n".join(programs), str(PAGE), "exec"), {"__name__": "__main__"})  # noqa: S102 - our own page
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert len(rows) == 14
    cats = [row[1:] for row in rows if not row[0].startswith(("new/dog", "image"))]
    assert len(cats) == 6
    assert all(cat == cats[0] for cat in cats)
    assert [path.name for path in sorted(tmp_path.glob("*.*"))] == [
        "answers.csv", "curves.svg", "images.svg", "list.csv",
    ]  # fmt: skip
