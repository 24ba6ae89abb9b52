"""examples/plugin, installed: each of its parts is used where it is named, and listed where a list is asked for."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tellapart.cli.commands import COMMANDS
from tellapart.cli.plugins import TABLES, show_plugins, table_of
from tests.command import COMMAND, WARNINGS
from tests.plugin import EXAMPLE, install, install_example


def call(folder: Path, *arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """A command where the packages of a folder are installed."""
    given = os.environ.get("PYTHONPATH", "")
    path = os.pathsep.join(part for part in (str(folder), given) if part)
    environment = {**os.environ, "PYTHONPATH": path, "COLUMNS": "200", "PYTHONWARNINGS": WARNINGS}
    command = [*COMMAND, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=cwd, check=False)


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install_example(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def listed(two_shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of lines that names real files, two classes."""
    file = tmp_path_factory.mktemp("lines") / "shapes.manifest"
    rows = [{"image": str(path), "label": path.parent.name} for path in sorted(two_shapes.rglob("*.png"))]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on Python's path, of this process."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.delitem(sys.modules, "strange", raising=False)
    return tmp_path


def test_plugins_are_listed_with_kind_package_and_version(example: Path) -> None:
    shown = call(example, "--version", "--plugins")
    rows = [line.split() for line in shown.stdout.splitlines()]
    for name, kind in (("three-convolutions", "backbones"), ("manifest", "sources"), ("labels", "commands")):
        assert [name, kind, "tellapart-example", "0.1.0", "loaded"] in rows
    assert call(example, "--plugins").stdout == shown.stdout


def test_the_help_lists_the_command_of_a_plugin_without_importing_it(example: Path, tmp_path: Path) -> None:
    shown = call(example, "--help")
    assert "labels" in shown.stdout
    assert "From the plug-in tellapart-example 0.1.0." in shown.stdout
    install(tmp_path, {"commands": {"strange-command": "no_such_module:command"}})
    shown = call(tmp_path, "--help")
    assert shown.returncode == 0
    assert "strange-command" in shown.stdout


def test_the_command_of_a_plugin_runs_and_explains_itself(example: Path, listed: Path) -> None:
    shown = call(example, "labels", listed)
    assert shown.returncode == 0, shown.stderr
    assert sorted(shown.stdout.splitlines()) == ["disc 30", "stripes 30"]
    explained = call(example, "labels", "--help").stdout
    assert "Count the images of each class." in explained
    assert "Exit codes: 0 done;" in " ".join(explained.split())
    mistyped = call(example, "lables", listed)
    assert mistyped.returncode == 2
    assert "'labels'" in mistyped.stderr


def test_a_source_is_found_by_its_suffix_or_by_its_name(example: Path, listed: Path, tmp_path: Path) -> None:
    other = tmp_path / "shapes.lines"
    other.write_bytes(listed.read_bytes())
    for named in (str(listed), f"manifest:{listed}", f"manifest:{other}"):
        shown = call(example, "check", named)
        assert "60 images of 2 classes" in shown.stdout, shown.stderr
    other.write_text("{}\n")
    shown = call(example, "check", f"manifest:{other}")
    assert shown.returncode == 2
    assert "read as manifest: line 1 is no JSON object" in shown.stderr
    without = call(tmp_path, "check", listed)
    assert without.returncode == 2
    assert "neither a zip nor a tar archive" in without.stderr


def test_layouts_and_models_show_what_plugins_add(example: Path) -> None:
    assert 'As a file:\n  manifest       photos.manifest with lines {"image":' in call(example, "layouts").stdout
    assert "three convolutions, for small images" in call(example, "models").stdout
    shown = call(example, "models", "three-convolution")
    assert "Did you mean 'three-convolutions'" in shown.stderr


@pytest.mark.slow
def test_a_backbone_is_trained_exported_and_resumed_and_its_plugin_is_named_where_it_is_gone(
    example: Path, listed: Path, two_shapes: Path, tmp_path: Path
) -> None:
    pytest.importorskip("keras")
    words = ["train", listed, "--model", "three-convolutions", "--image-size", "32", "--out", tmp_path / "run"]
    done = call(example, *words, "--epochs", "2", "--set", "model.filters=4", "--format", "json")
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    (used,) = record["plugins"]
    assert (used["kind"], used["name"], used["package"], used["version"]) == (
        "backbones", "three-convolutions", "tellapart-example", "0.1.0",
    )  # fmt: skip
    image = next(two_shapes.rglob("*.png"))
    without = tmp_path / "nothing installed"
    without.mkdir()
    predicted = call(without, "predict", tmp_path / "run", image, "--format", "json")
    assert predicted.returncode == 0, "a finished run needs no plug-in"
    refused = call(without, "export", tmp_path / "run", "--to", "keras")
    assert refused.returncode == 2
    assert "from the plug-in tellapart-example 0.1.0, which is not available here" in refused.stderr
    assert call(example, "export", tmp_path / "run", "--to", "keras").returncode == 0
    explained = call(without, "explain", tmp_path / "run", image)
    assert explained.returncode == 0, explained.stderr
    assert "Without feature maps and filters." in explained.stdout
    begun = json.loads((tmp_path / "run" / "run.json").read_text())
    (tmp_path / "run" / "run.json").write_text(json.dumps({**begun, "status": "interrupted"}))
    gone = call(without, "train", "--resume", tmp_path / "run")
    assert gone.returncode == 2
    assert "from the plug-in tellapart-example 0.1.0, which is not available here" in gone.stderr
    later = {**begun, "status": "interrupted", "plugins": [{**used, "version": "0.0.9"}]}
    (tmp_path / "run" / "run.json").write_text(json.dumps(later))
    again = call(example, "train", "--resume", tmp_path / "run")
    assert again.returncode == 0, again.stderr
    told = "'three-convolutions' comes from tellapart-example 0.1.0 here, but came from tellapart-example 0.0.9 when"
    assert told in again.stderr


@pytest.mark.parametrize(
    ("kind", "name", "module", "reason"),
    [
        ("backbones", "spoilt", "import nothing_of_this_name", "ModuleNotFoundError: No module named"),
        ("backbones", "spoilt", "raise SystemExit('no')", "SystemExit: no"),
        ("backbones", "spoilt", "row = 3", "it is int, expected Architecture"),
        ("backbones", "spoilt", "", "has no attribute 'row'"),
        ("backbones", "cnn", "row = 3", "the name is taken"),
        ("backbones", "Not a name", "row = 3", "lower-case words"),
        ("sources", "table", "row = 3", "the name is taken"),
        ("exports", "spoilt", "row = 3", "expected ExportFormat"),
        ("trackers", "spoilt", "row = 3", "expected TrackerKind"),
        ("checks", "spoilt", "row = 3", "expected Check"),
        ("commands", "train", "row = 3", "the name is taken"),
        ("commands", "spoilt", "import tellapart.plugins\nrow = tellapart.plugins.Command('other')", "calls itself 'o"),
        ("backbone", "spoilt", "row = 3", "Did you mean 'tellapart.backbones'"),
    ],
)  # fmt: skip
def test_a_broken_plugin_is_told_in_a_line_and_left_out(
    kind: str, name: str, module: str, reason: str, site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (site / "strange.py").write_text(f"{module}\n")
    install(site, {kind: {name: "strange:row"}})
    before = {kind: list(table_of(kind)) for kind in TABLES}
    show_plugins()
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "is ignored" in line]
    assert reason in line
    assert "strange 1.0" in line
    assert {kind: list(table_of(kind)) for kind in TABLES} == before


def test_of_two_packages_with_one_name_neither_is_taken(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for package in ("one", "two"):
        install(site, {"commands": {"greet": f"{package}:row"}}, name=package)
    show_plugins()
    shown = capsys.readouterr().out
    assert shown.count("is ignored") == 2
    assert "two 1.0 defines one of the same name" in shown
    assert "greet" not in COMMANDS.names()


def test_a_broken_plugin_that_is_named_is_told_with_what_to_do(tmp_path: Path) -> None:
    install(tmp_path, {"backbones": {"broken": "strange:row"}, "commands": {"greet": "strange:row"}})
    for words in (["models", "broken"], ["greet"]):
        shown = call(tmp_path, *words)
        assert shown.returncode == 2
        assert "No module named 'strange'" in shown.stderr
        assert "pip uninstall strange" in shown.stderr
        assert "Traceback" not in shown.stderr


def test_a_fault_in_a_plugin_is_told_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    module = (
        "from tellapart.plugins import command\n@command('greet')\ndef row() -> None:\n    raise KeyError('name')\n"
    )
    (tmp_path / "strange.py").write_text(module)
    install(tmp_path, {"commands": {"greet": "strange:row"}})
    shown = call(tmp_path, "greet")
    assert shown.returncode == 70
    assert "internal error in the plug-in strange 1.0: KeyError: 'name'" in shown.stderr
    assert "Send it to the author of the plug-in." in shown.stderr
    assert "repository" not in shown.stderr


def test_nothing_of_a_plugin_is_imported_that_is_not_asked_for(two_shapes: Path, tmp_path: Path) -> None:
    (tmp_path / "strange.py").write_text("raise SystemExit('imported')\n")
    kinds = ("backbones", "sources", "exports", "trackers", "commands")
    install(tmp_path, {kind: {f"strange-{kind}": "strange:row"} for kind in kinds})
    for words in (["--help"], ["--version"], ["check", two_shapes], ["models", "cnn"], ["train", "--help"]):
        shown = call(tmp_path, *words)
        assert "strange:" not in shown.stdout + shown.stderr
        assert "left out" not in shown.stdout + shown.stderr
        assert shown.returncode == 0, shown.stderr


def test_a_folder_that_one_stands_in_installs_nothing(tmp_path: Path) -> None:
    install(tmp_path, {"commands": {"greet": "strange:row"}})
    shown = call(tmp_path, "--plugins", cwd=tmp_path)
    assert "No plug-ins are installed." in shown.stdout


PAGE = Path(__file__).resolve().parents[1] / "docs" / "how-to" / "plugins.md"


def test_the_page_shows_the_files_of_the_example_as_they_are() -> None:
    blocks = re.findall(r"```(?:python|toml)\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    written = [path.read_text(encoding="utf-8") for path in EXAMPLE.rglob("*") if path.suffix in (".py", ".toml")]
    assert [any(block in text for text in written) for block in blocks] == [False, True, True, True]


@pytest.mark.slow
def test_the_program_of_the_page_trains_a_network_of_its_own(two_shapes: Path, tmp_path: Path) -> None:
    pytest.importorskip("keras")
    (program,) = re.findall(r"```python\n(import tellapart as ta\n.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    (tmp_path / "photos").symlink_to(two_shapes)
    (tmp_path / "program.py").write_text(program.replace("cat.jpg", "disc/disc 0.png"), encoding="utf-8")
    done = subprocess.run([sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in ("disc", "stripes")
    record = json.loads((tmp_path / "runs" / "two" / "run.json").read_text())
    assert [(used["name"], used["place"]) for used in record["plugins"]] == [("two-convolutions", "__main__")]
    (tmp_path / "runs" / "two" / "run.json").write_text(json.dumps({**record, "status": "interrupted"}))
    gone = call(tmp_path / "nowhere", "train", "--resume", "runs/two", cwd=tmp_path)
    assert gone.returncode == 2
    assert "Resume from that program." in gone.stderr
