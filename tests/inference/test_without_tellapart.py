"""docs/how-to/without-tellapart.md, run as it stands: the file says of itself all that another program needs."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
from pathlib import Path

import pytest
from PIL import Image

import tellapart as ta
from tests.conftest import draw

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "without-tellapart.md"
SMALL = ["model.filters=[8]", "model.dense=[8]", "train.epochs=2", "image.height=32", "image.width=32"]
NEAR = 0.05
"""Of probabilities and distances: the page resizes with Pillow's filter, tellapart with a faster one."""


def answers_of_the_page(folder: Path) -> tuple[str, float, str, str]:
    """Label, probability and verdict that the page's program prints in this folder, and what it says of the input."""
    (program,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    said = io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(said):
        exec(compile(program, str(PAGE), "exec"), {"__name__": "__main__"})  # noqa: S102 - a page of this project
    about, answer = said.getvalue().strip().rsplit("\n", 1)
    label, probability, verdict = answer.split(" ")
    return label, float(probability), verdict, about


@pytest.mark.slow
@pytest.mark.parametrize("fit", ["crop", "pad", "squash"])
@pytest.mark.parametrize("classes", [2, 3])
def test_the_page_predicts_what_tellapart_predicts(
    fit: str, classes: int, shapes: Path, two_shapes: Path, tmp_path: Path
) -> None:
    config = ta.make_config(model="cnn", settings=[*SMALL, f"image.fit={fit}"])
    run = ta.train(shapes if classes == 3 else two_shapes, config=config, out=tmp_path / "runs" / "pets")
    for number, kind in enumerate(("disc", "stripes")):
        image = draw(kind, 70 + number, 64).crop((0, 0, 64, 52))
        exif = Image.Exif()
        exif[0x0112] = 6  # as a telephone held upright writes it
        image.save(tmp_path / "cat.jpg", quality=95, exif=exif)
        ours = run.predict(tmp_path / "cat.jpg")[0]
        label, probability, verdict, about = answers_of_the_page(tmp_path)
        assert label == ours.label
        assert probability == pytest.approx(ours.probability, abs=NEAR)
        bounds = run.predictor().metadata.thresholds
        assert bounds is not None
        assert bounds.unlike is not None
        at_a_bound = min(abs(ours.distance - bounds.unlike), abs(ours.probability - bounds.sure)) < NEAR
        assert verdict == ours.verdict or at_a_bound
        assert {"crop": "centre-cropped", "pad": "black", "squash": "stretched"}[fit] in about
        assert "EXIF" in about


def test_a_transparent_image_lies_over_white_there_too(two_shapes: Path, tmp_path: Path) -> None:
    run = ta.train(two_shapes, config=ta.make_config(model="cnn", settings=SMALL), out=tmp_path / "runs" / "pets")
    seen = draw("disc", 90, 64).convert("RGBA")
    seen.putalpha(Image.linear_gradient("L").resize((64, 64)))
    seen.save(tmp_path / "cat.png")
    shutil.move(tmp_path / "cat.png", tmp_path / "cat.jpg")  # told by its content, as everywhere
    ours = run.predict(tmp_path / "cat.jpg")[0]
    assert answers_of_the_page(tmp_path)[1] == pytest.approx(ours.probability, abs=NEAR)
    about = json.loads(run.predictor()._session.get_modelmeta().custom_metadata_map["tellapart"])
    assert about["outputs"]["probabilities"].endswith("that of disc is 1 minus this")
