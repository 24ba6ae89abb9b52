"""What a newcomer reads: help, tables on a narrow terminal, paths to type, progress."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from tellapart.cli import main, options
from tellapart.cli.commands import COMMANDS, PANELS
from tellapart.cli.console import display, show, table, typed
from tellapart.cli.main import app
from tellapart.cli.predict_output import Output, format_by_suffix
from tellapart.models import backend
from tellapart.progress import BY_HAND, Lines, Phase


def shown_help(*arguments: str) -> str:
    return CliRunner().invoke(app, [*arguments, "--help"], env={"COLUMNS": "80", "TERMINAL_WIDTH": "80"}).stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_help_tells_every_default_that_is_told_in_words(name: str) -> None:
    text = " ".join(shown_help(name).replace("│", " ").split())
    for parameter in typer.main.get_command(app).commands[name].params:  # type: ignore[attr-defined]
        if isinstance(parameter.show_default, str):
            assert f"[default: ({parameter.show_default})]" in text


def test_help_begins_with_where_to_begin() -> None:
    text = shown_help()
    assert text.index("demo") < text.index("check") < text.index("train") < text.index("tune")
    assert all(panel in text for panel in PANELS)
    assert "Start with: tellapart demo" in text


def test_a_paragraph_of_help_is_broken_by_the_terminal_alone() -> None:
    lines = [line.strip() for line in shown_help("compare").splitlines()]
    place = next(place for place, line in enumerate(lines) if line.startswith("With more than two"))
    assert all(len(line) > 50 for line in lines[place : place + 2])


def test_a_table_that_is_too_wide_leaves_out_what_it_may_and_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for width, there, gone in ((100, ("model", "day"), ()), (50, ("model",), ("day",)), (35, (), ("model", "day"))):
        monkeypatch.setenv("COLUMNS", str(width))
        rows = table("run", "?model", "?day", ">accuracy")
        rows.add_row("runs/efficientnet-1", "efficientnet-1", "2026-11-23", "0.984")
        show(rows)
        shown = capsys.readouterr().out
        head, _, note = shown.partition("Not shown for lack of width: ")
        assert "runs/efficientnet-1" in head
        assert "0.984" in head
        assert all(name in head for name in there)
        assert all(name not in head and name in note for name in gone)
        assert max(map(len, head.splitlines())) <= width


def test_a_name_in_the_first_column_is_not_broken(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    rows = table("recipe", "what it is", "reached")
    rows.add_row("cats-dogs-b-augmented", "words " * 20, "more words " * 20)
    show(rows)
    assert "cats-dogs-b-augmented" in capsys.readouterr().out


def test_a_path_to_type_is_short_and_in_quotes_where_the_shell_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert typed(tmp_path / "runs" / "cats-1") == "runs/cats-1"
    assert typed("my photos (2)") == "'my photos (2)'"
    assert typed("/elsewhere/a") == "/elsewhere/a"
    assert typed("builtin:pets") == "builtin:pets"


@pytest.mark.parametrize(
    ("name", "output"),
    [("a.csv", "csv"), ("a.JSON", "json"), ("a.jsonl", "jsonl"), ("a.txt", "table"), (None, "table")],
)
def test_the_name_of_the_file_asks_for_the_format(name: str | None, output: str) -> None:
    assert format_by_suffix(name) is Output(output)


def test_a_size_or_time_that_is_none_names_the_option() -> None:
    with pytest.raises(typer.BadParameter) as size:
        options.parse_bytes("lots", "--max-body")
    with pytest.raises(typer.BadParameter) as time:
        options.parse_duration("soon")
    assert (size.value.param_hint, time.value.param_hint) == ("--max-body", "--budget")


def test_lines_tell_the_end_of_a_stage_once(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines()
    for done in (1, 2, 2):
        lines.update("saving", done, 2)
    lines.update("predicting", 5, 0)
    assert capsys.readouterr().err == "saving: 2 of 2\n"


def test_an_epoch_is_told_by_its_own_line_whatever_its_stage_is_called(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines()
    lines.update(Phase.EPOCH.named("round 1 of 2"), 5, 5)
    lines.update("epoch-making work", 5, 5)
    assert capsys.readouterr().err == "epoch-making work: 5 of 5\n"


def test_lines_obey_no_control_of_a_name(capsys: pytest.CaptureFixture[str]) -> None:
    Lines().line("a\x1b[2J \udce9 Kätzchen 🐱")
    assert capsys.readouterr().err == "a\\x1b[2J \\xe9 Kätzchen 🐱\n"


def test_python_by_hand_shows_progress_and_a_program_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    BY_HAND.line("in a program")
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    BY_HAND.line("by hand")
    assert capsys.readouterr().err == "by hand\n"


@pytest.mark.parametrize("ends", [KeyboardInterrupt, SystemExit(3)])
def test_ctrl_c_is_told_and_another_end_is_left_as_it_is(
    ends: type[BaseException] | BaseException, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    other = typer.Typer()

    @other.command()
    def command() -> None:
        raise ends

    monkeypatch.setattr(main, "app_of", lambda _: other)
    monkeypatch.setattr(backend, "process_is_ours", False)  # put back, as this process is pytest's
    monkeypatch.setattr(sys, "argv", ["tellapart"])
    with pytest.raises(SystemExit) as ended:
        main.run()
    stopped = ends is KeyboardInterrupt
    assert ended.value.code == (130 if stopped else 3)
    assert ("stopped by Ctrl-C" in capsys.readouterr().err) is stopped


def test_progress_goes_to_a_stream_of_a_host_that_is_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with display() as progress:
        progress.line("here")
    assert sys.stderr.getvalue() == "here\n"
    assert not sys.stderr.closed


def test_a_prediction_of_one_image_imports_nothing_that_only_many_need(shapes_run: Path, two_shapes: Path) -> None:
    image = next(two_shapes.rglob("*.png"))
    code = (
        f"import sys; sys.argv = ['tellapart', 'predict', {str(shapes_run)!r}, {str(image)!r}]\n"
        "from tellapart.cli.main import run\n"
        "try: run()\n"
        "finally: print(*sys.modules, sep='\\n', file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert image.name in done.stdout
    imported = set(done.stderr.split())
    assert "tellapart.inference.predictor" in imported
    for_many = ("evaluation.shift", "inference.shift_watch", "inference.sorting")
    assert not imported & {f"tellapart.{name}" for name in for_many}


def test_a_command_imports_no_file_of_another() -> None:
    """Each takes its time before anything is predicted."""
    code = (
        "import sys; sys.argv = ['tellapart', 'predict', '--help']\n"
        "from tellapart.cli.main import run\n"
        "try: run()\n"
        "finally: print([name for name in sys.modules if name.startswith('tellapart.cli.')], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "tellapart.cli.predict'" in done.stderr
    assert "tellapart.cli.train'" not in done.stderr


def test_a_path_that_is_broken_goes_on_behind_its_label(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = "runs/" + "/".join(f"a folder {number}" for number in range(20))
    monkeypatch.setenv("COLUMNS", "80")
    for label in ("page    ", "          ", "warning ", "note: "):
        show(label + path)
        first, *others = capsys.readouterr().out.splitlines()
        assert first.startswith(label + "runs/")
        assert others
        assert all(line.startswith(" " * len(label)) and line[len(label)] != " " for line in others)
        assert max(map(len, [first, *others])) <= 80
    monkeypatch.delenv("COLUMNS")
    show(f"page    {path}")
    assert capsys.readouterr().out == f"page    {path}\n", "in a file or pipe a path is whole"


def test_severities_are_coloured_on_a_terminal_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = ("error   broken: a", "warning: b", "note: c", "noted: d")
    for line in lines:
        show(line)
    assert "\x1b" not in capsys.readouterr().out
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for line in lines:
        show(line)
    begins = [line.split("m", 1)[0] for line in capsys.readouterr().out.splitlines()]
    assert begins == ["\x1b[1;31", "\x1b[33", "\x1b[36", "noted: d"]
