"""Tables: rows by name, with what a program or an installed package adds."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pytest

import tellapart as ta
from tellapart import tables
from tellapart.cli.plugins import TABLES, table_of
from tellapart.config import DataConfig
from tellapart.data.sources import layouts, read_source
from tellapart.errors import ConfigError, ModelError, PluginError, RunError, SourceError, UntrustedCodeError
from tellapart.runs.required_plugins import require_plugins
from tellapart.runs.run import RunFolder
from tellapart.tables import NAME, Plugin, Table, installed, origin
from tests.plugin import install


@dataclass(frozen=True)
class Shape:
    name: str
    corners: int = 0


def shapes() -> Table[Shape]:
    return Table("shapes", "shape", Shape, ModelError, [Shape("disc"), Shape("square", 4)], aliases={"round": "disc"})


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on Python's path; what its plug-ins add is gone after the test."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "strange", raising=False)
    before = {kind: dict(table_of(kind)._rows) for kind in TABLES}
    added = dict(tables._added)
    yield tmp_path
    for kind, rows in before.items():
        table_of(kind)._rows.clear()
        table_of(kind)._rows.update(rows)
    tables._added.clear()
    tables._added.update(added)


def plug(site: Path, kind: str, name: str, module: str) -> None:
    """A package whose module `strange` holds this, with a row of this name."""
    (site / "strange.py").write_text(module, encoding="utf-8")
    install(site, {kind: {name: "strange:row"}})


@pytest.mark.parametrize("kind", TABLES)
def test_every_built_in_row_stands_under_its_name_and_could_be_a_plugins(kind: str) -> None:
    table = table_of(kind)
    assert table.kind == kind
    assert len(table) > 0
    for name in table:
        assert table[name].name == name
        assert NAME.fullmatch(name)
        assert table.find(name) is table[name]
        assert origin(kind, name) is None


def test_a_name_is_found_or_told_with_the_nearest_and_what_others_call_it() -> None:
    assert shapes().find("square").corners == 4
    with pytest.raises(ModelError, match=r"no shape 'sqare'. Did you mean 'square'\? Known: disc, square\."):
        shapes().find("sqare")
    with pytest.raises(ModelError, match="Did you mean 'disc'"):
        shapes().find("round")


def test_a_row_is_added_once_under_a_free_name() -> None:
    table = shapes()
    star = table.add(Shape("star", 5), "elsewhere")
    assert table.find("star") is star
    assert table.add(star, "elsewhere") is star
    for name, reason in (("disc", "taken"), ("star", "taken"), ("A star", "lower-case"), ("x" * 41, "lower-case")):
        with pytest.raises(PluginError, match=reason):
            table.add(Shape(name), "elsewhere")
    with pytest.raises(PluginError, match="Given int as a shape; expected Shape"):
        table.add(3, "elsewhere")  # type: ignore[arg-type]
    assert list(table) == ["disc", "square", "star"]
    for corners in (6, 8):
        table.add(Shape("stop-sign", corners), "__main__")
        assert table.find("stop-sign").corners == corners
    for name in ("disc", "star"):
        with pytest.raises(PluginError, match="taken"):
            table.add(Shape(name), "__main__")


def test_a_plugin_is_loaded_where_its_name_is_asked_for_and_not_before(site: Path) -> None:
    plug(site, "shapes", "star", "from tests.test_tables import Shape\nrow = Shape('star', 5)\n")
    table = Table("shapes", "shape", "tests.test_tables:Shape", ModelError, [Shape("disc")])
    assert table.names() == ("disc", "star")
    assert "strange" not in sys.modules
    assert table.find("star").corners == 5
    assert str(origin("shapes", "star")) == "strange 1.0"
    assert [str(plugin) for plugin in installed("shapes")] == ["strange 1.0"]


def test_of_one_package_in_two_places_the_first_on_the_path_counts(
    site: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = tmp_path_factory.mktemp("later")
    monkeypatch.setattr(sys, "path", [*sys.path, str(later)])
    install(site, {"shapes": {"star": "strange:row"}}, version="2.0")
    install(later, {"shapes": {"star": "strange:row"}}, version="1.0")
    assert [str(plugin) for plugin in installed("shapes")] == ["strange 2.0"]


def test_entry_points_that_cannot_be_read_are_none(site: Path) -> None:
    install(site, {"shapes": {"star": "strange:row"}})
    (site / "strange-1.0.dist-info" / "entry_points.txt").write_bytes(b"[tellapart.shapes\xff]\n")
    assert installed("shapes") == ()
    install(site, {}, name="other")
    (site / "other-1.0.dist-info" / "entry_points.txt").write_text("row = 1\n[tellapart.shapes]\n")
    assert installed("shapes") == ()


CHECK = """
from tellapart.plugins import Finding, check

@check("odd-names")
def row(images):
    if {fails}:
        raise KeyError("names")
    yield Finding("odd-name", "note", (images[0].path,), "1 image has an odd name.")
"""


@pytest.mark.parametrize("fails", [False, True])
def test_a_check_of_a_plugin_is_made_and_one_that_fails_is_a_finding(fails: bool, site: Path, two_shapes: Path) -> None:
    plug(site, "checks", "odd-names", CHECK.format(fails=fails))
    (finding,) = ta.read(two_shapes).findings
    if fails:
        assert finding.kind == "check-left-out"
        assert "'odd-names' of the plug-in strange 1.0 failed: KeyError: 'names'" in finding.meaning
    else:
        assert finding.meaning == "1 image has an odd name."


def test_a_check_that_cannot_be_loaded_is_a_finding(site: Path, two_shapes: Path) -> None:
    plug(site, "checks", "odd-names", "import nothing_of_this_name")
    (finding,) = ta.read(two_shapes).findings
    assert (finding.kind, finding.severity) == ("check-left-out", "warning")
    assert "No module named 'nothing_of_this_name'" in finding.meaning


FOLDER = """
from tellapart.plugins import LabelledPath, Source, folder_source

@folder_source("pairs", example="a--1.jpg  b--1.jpg")
def row(listing, config):
    if not listing.images or "--" not in listing.images[0]:
        return "no name has -- in it"
    rows = [LabelledPath(path, path.partition("--")[0].rpartition("/")[2]) for path in listing.images]
    return Source(listing.root, tuple(rows), "pairs")
"""


def test_a_folder_that_no_built_in_source_reads_is_shown_to_those_of_plugins(site: Path, tmp_path: Path) -> None:
    plug(site, "sources", "pairs", FOLDER)
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("2024-01-05--1.png", "2024-01-05--2.png", "2025-01-05--1.png"):
        (folder / name).touch()
    for named in (folder, f"pairs:{folder}"):
        assert {row.label for row in read_source(named, DataConfig()).rows} == {"2024-01-05", "2025-01-05"}
    assert re.match(r"\w+ layouts work, as a folder", layouts())
    for name in ("2024-01-05--1.png", "2024-01-05--2.png", "2025-01-05--1.png"):
        (folder / name).rename(folder / name.replace("--", ""))
    with pytest.raises(SourceError, match="pairs          no name has -- in it"):
        read_source(folder, DataConfig())
    with pytest.raises(SourceError, match="cannot be read by the source pairs: no name has -- in it"):
        read_source(f"pairs:{folder}", DataConfig())
    with pytest.raises(SourceError, match="Did you mean 'pairs'"):
        read_source(f"pair:{folder}", DataConfig())


def test_a_source_that_is_asked_for_by_name_reads_where_another_would(tmp_path: Path) -> None:
    for name in ("a/x.1.png", "b/y.1.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    for source, labels in (("class-folders", {"a", "b"}), ("file-names", {"x", "y"})):
        assert {row.label for row in read_source(f"{source}:{tmp_path}", DataConfig()).rows} == labels
    with pytest.raises(SourceError, match="cannot be read by the source split-folders"):
        read_source(f"split-folders:{tmp_path}", DataConfig())
    with pytest.raises(SourceError, match="class-folders reads folders"):
        read_source(f"class-folders:{tmp_path}/a/x.1.png", DataConfig())


TRACKER = """
from tellapart.plugins import tracker

told = []

@tracker("memory")
class row:
    name = "memory"
    errors = ()

    def begin(self, run):
        told.append(("begin", run.path.name))

    def row(self, row):
        told.append(("row", row.epoch))

    def end(self, run, status):
        told.append(("end", status))
"""
EXPORT = """
import numpy
from tellapart.plugins import export

def run(path):
    import keras
    model = keras.saving.load_model(path)
    return lambda images: {name: numpy.asarray(value) for name, value in model(images).items()}

@export("keras-again", suffix=".keras", runtime="Keras", run=run)
def row(shipment, path):
    shipment.model.save(path)
"""
FIELDS = [field.name for field in fields(Plugin)]
SMALL = ("model.name=dense", "model.dense=[4]", "image.height=16", "image.width=16", "train.epochs=2")


@pytest.mark.slow
def test_a_tracker_and_an_export_format_of_plugins_are_used_by_name(
    site: Path, two_shapes: Path, tmp_path: Path
) -> None:
    pytest.importorskip("keras")
    plug(site, "trackers", "memory", TRACKER)
    config = ta.make_config(settings=SMALL, track=["memory"])
    run = ta.train(two_shapes, out=tmp_path / "run", config=config)
    assert sys.modules["strange"].told == [("begin", "run"), ("row", 1), ("row", 2), ("end", "FINISHED")]
    assert [used.name for used in run.record.plugins] == ["memory"]
    (site / "formats.py").write_text(EXPORT, encoding="utf-8")
    install(site, {"exports": {"keras-again": "formats:row"}}, name="formats")
    tables._installed.cache_clear()
    made = ta.export(run.path, "keras-again")
    assert made.path.name == "model.keras"
    assert made.difference < made.bound


@pytest.mark.parametrize("plugins", [3, [3], [{}], [{"kind": "backbones"}], [dict.fromkeys(FIELDS, 3)]])
def test_a_record_of_plugins_that_is_none_is_an_error_of_the_run(
    plugins: Any, shapes_run: Path, tmp_path: Path
) -> None:
    run = RunFolder(tmp_path / "run")
    shutil.copytree(shapes_run, run.path)
    run.run_file.write_text(json.dumps(run.record.to_dict() | {"plugins": plugins}))
    with pytest.raises(RunError, match=r"run\.json is damaged .*plugins"):
        require_plugins(run)


def test_a_run_names_no_module_that_is_imported(shapes_run: Path, tmp_path: Path, site: Path) -> None:
    (site / "strange.py").write_text("raise SystemExit('imported')\n")
    run = RunFolder(tmp_path / "run")
    shutil.copytree(shapes_run, run.path)
    for name in ("strange:row", "strange", "tellapart.models.scratch:cnn"):
        text = run.config_file.read_text().replace('name = "cnn"', f'name = "{name}"')
        run.config_file.write_text(text)
        used = {"kind": "backbones", "name": name, "package": "strange", "version": "1.0", "place": "strange:row"}
        run.update(status="interrupted", plugins=[used])
        with pytest.raises(RunError, match="Install it, if you trust its source"):
            ta.resume(run.path)
        run.update(plugins=[])
        told = "is custom code, not part of tellapart" if ":" in name else "There is no model"
        with pytest.raises((ModelError, UntrustedCodeError), match=told):
            ta.resume(run.path)
        run.config_file.write_text(text.replace(f'name = "{name}"', 'name = "cnn"'))


def test_a_tracker_that_is_unknown_is_told_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"train\.track: .*'tensorbord'. Did you mean 'tensorboard'"):
        ta.make_config(track=["tensorbord"])
