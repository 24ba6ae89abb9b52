"""Python by hand: wrong requests are refused before any work, and what comes back is told in short."""

from __future__ import annotations

from pathlib import Path

import pytest

import tellapart as ta
from tellapart.errors import ConfigError, ModelError, RunError, SourceError


def test_an_option_that_is_mistyped_is_named_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"There is no option 'modle'\. Did you mean 'model'"):
        ta.train("photos", modle="cnn")
    with pytest.raises(ConfigError, match="There is no option 'modle'"):
        ta.tune("photos", modle="cnn")


@pytest.mark.parametrize("command", ["train", "ladder", "tune"])
def test_a_place_that_is_taken_is_told_before_the_images_are_read(command: str, tmp_path: Path) -> None:
    (tmp_path / "my run").mkdir()
    (tmp_path / "my run" / "notes.txt").write_text("x", encoding="utf-8")
    with pytest.raises(RunError, match=r"exists and is not empty.*--resume '.*my run'"):
        getattr(ta, command)(tmp_path / "no images", out=tmp_path / "my run")


def test_weights_that_are_not_there_are_told_before_the_images_are_read(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"The weights .*nope\.h5 cannot be read: No such file"):
        ta.train(tmp_path / "no images", weights="nope.h5")


def test_an_image_too_small_for_the_backbone_is_told_before_tensorflow_is_started(two_shapes: Path) -> None:
    with pytest.raises(ModelError, match="5x5 pixels is too small for efficientnet-lite0"):
        ta.train(two_shapes, model="efficientnet-lite0", image_size=5)


def test_a_catalog_is_told_in_a_line_however_many_images_it_holds(shapes: Path) -> None:
    catalog = ta.read(shapes)
    assert repr(catalog) == (
        f"<Catalog {str(shapes)!r}: 60 images of 3 classes (39 train, 9 validation, 12 test), 0 findings>"
    )


def test_a_run_stands_wherever_its_folder_does(tmp_path: Path) -> None:
    run = ta.Run(tmp_path)
    assert Path(run) == tmp_path
    with pytest.raises(RunError, match=str(tmp_path)):
        ta.open_run(run)


def test_a_folder_without_runs_gets_no_page(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="There is no run in"):
        ta.write_index(tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_pydantic_says_is_said_in_plain_words() -> None:
    with pytest.raises(ConfigError, match=r"^train\.epochs: should be greater than 0; given 0\.$"):
        ta.make_config(epochs=0)
    with pytest.raises(ConfigError, match=r"^train\.fine_tune: expected a number of blocks, or all; given 'x'\.$"):
        ta.make_config(fine_tune="x")


def test_a_configuration_that_is_not_there_is_named_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        ta.make_config(config=tmp_path / "no.toml")
    assert str(refused.value) == f"Cannot read the configuration {tmp_path / 'no.toml'}: No such file or directory."


def test_a_home_folder_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "photos").mkdir()
    with pytest.raises(SourceError, match="is empty"):
        ta.read("~/photos")
