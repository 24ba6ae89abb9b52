"""The command line as a person uses it: real processes, their output and exit codes."""

from __future__ import annotations

import json
import subprocess
import zipfile
from pathlib import Path

import pytest

import tellapart as ta
from tests.command import COMMAND, call

NAMES = (
    "demo", "check", "train", "evaluate", "predict", "explain", "compare", "ladder", "tune", "export", "serve",
    "report", "runs", "models", "recipes", "layouts", "fetch", "features", "push", "pull",
)  # fmt: skip


@pytest.fixture(scope="module")
def run(two_shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> ta.Run:
    pytest.importorskip("keras")
    settings = [
        "model.name=cnn",
        "image.height=24",
        "image.width=24",
        "model.filters=[8]",
        "model.dense=[8]",
        "train.epochs=3",
    ]
    return ta.train(two_shapes, out=tmp_path_factory.mktemp("runs") / "run", config=ta.make_config(settings=settings))


def test_help_names_every_command() -> None:
    shown = call("--help")
    assert shown.returncode == 0
    for name in NAMES:
        assert name in shown.stdout
    assert call("--version").stdout.strip() == f"tellapart {ta.__version__}"


@pytest.mark.parametrize("name", NAMES)
def test_every_command_explains_itself(name: str) -> None:
    shown = call(name, "--help")
    assert shown.returncode == 0
    assert "Usage" in shown.stdout


def test_check_prints_what_is_there_and_changes_nothing(two_shapes: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in two_shapes.rglob("*")}
    shown = call("check", two_shapes)
    assert shown.returncode == 0, shown.stderr
    assert "60 images of 2 classes" in shown.stdout
    assert "Nothing found" in shown.stdout
    assert {p: p.stat().st_mtime_ns for p in two_shapes.rglob("*")} == before


def test_check_exits_with_1_where_something_needs_a_person(two_shapes: Path, tmp_path: Path) -> None:
    for path in two_shapes.rglob("*.png"):
        target = tmp_path / "photos" / path.parent.name / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    (tmp_path / "photos" / "disc" / "bad.jpg").write_bytes(b"bad")
    shown = call("check", tmp_path / "photos", "--format", "json")
    assert shown.returncode == 1
    answer = json.loads(shown.stdout)
    assert answer["broken"] == 1
    assert [f["kind"] for f in answer["findings"]] == ["broken"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["check", "/nowhere/at/all"], "/nowhere/at/all"),
        (["train"], "Give the images to train on"),
        (["train", "builtin:pets", "--model", "cnm"], "Did you mean 'cnn'"),
        (["train", "builtin:pets", "--recipe", "cats-dogs-65"], "cats-dogs-64"),
        (["train", "builtin:pets", "--set", "train.epoch=3"], "train.epochs"),
        (["train", "builtin:pets", "--augment", "lite"], "light"),
        (["train", "builtin:pets", "--fine-tune", "some"], "expected a number of blocks, or all"),
        (["predict", "nowhere", "x.jpg"], "There is no run nowhere"),
        (["evaluate", "nowhere"], "There is no run nowhere"),
        (["models", "cnm"], "cnn"),
        (["runs", "nowhere"], "nowhere"),
        (["compare", "nowhere", "neither"], "There is no run nowhere"),
        (["ladder"], "Give the images"),
        (["ladder", "builtin:pets", "--rung", "dens", "--rung", "conv"], "Did you mean 'dense'"),
        (["ladder", "builtin:pets", "--budget", "soon"], "30s, 10m or 1h"),
        (["ladder", "--resume", "nowhere"], "no ladder"),
        (["ladder", "builtin:pets", "--resume", "nowhere"], "Give at most --budget"),
        (["report"], "Give a run"),
        (["report", "nowhere", "--all", "runs"], "Give a run"),
    ],
)
def test_a_wrong_request_is_one_message_and_exit_code_2(arguments: list[str], says: str, tmp_path: Path) -> None:
    shown = call(*arguments, cwd=tmp_path)
    assert shown.returncode == 2
    assert says in shown.stderr
    assert "Traceback" not in shown.stderr
    assert not (tmp_path / "runs").exists()


def test_resume_takes_nothing_beside_it(run: ta.Run) -> None:
    shown = call("train", "--resume", run.path, "--epochs", "9")
    assert shown.returncode == 2
    assert "Give no other option with it" in shown.stderr


@pytest.mark.slow
def test_train_prints_progress_to_stderr_and_the_answer_to_stdout(two_shapes: Path, tmp_path: Path) -> None:
    pytest.importorskip("keras")
    shown = call(
        "train", two_shapes, "--model", "cnn", "--epochs", "2", "--image-size", "24", "--seed", "4",
        "--out", tmp_path / "run",
        "--set", "model.filters=[4]", "--set", "model.dense=[4]", "--cache-limit", "1GB", "--format", "json",
    )  # fmt: skip
    assert shown.returncode == 0, shown.stderr
    answer = json.loads(shown.stdout)
    assert answer["status"] == "done"
    assert answer["seed"] == 4
    assert "epoch 2/2" in shown.stderr
    lines = [line for line in shown.stderr.splitlines() if line.startswith(("E0000", "I0000", "W0000", "WARNING"))]
    assert not lines, "the libraries' start-up reports are kept from the user"


def test_predicting_a_folder_tells_what_is_left_out_of_it(run: ta.Run, two_shapes: Path, tmp_path: Path) -> None:
    folder = tmp_path / "new"
    folder.mkdir()
    (folder / "1.png").write_bytes(next(two_shapes.rglob("*.png")).read_bytes())
    (folder / "video.mp4").touch()
    shown = call("predict", run.path, folder)
    assert shown.returncode == 0
    assert "1 video in an unsupported format: 1 .mp4. Left out." in shown.stderr
    (folder / "2.NEF").touch()
    (folder / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    shown = call("predict", run.path, folder)
    assert shown.returncode == 1
    assert "1 image in an unsupported format: 1 .nef. Left out. Export them as JPEG or PNG" in shown.stderr
    assert "It is left out. (gone.jpg)" in shown.stderr
    assert len(shown.stdout.splitlines()) == 1


def test_evaluate_gives_the_figures_of_the_run(run: ta.Run) -> None:
    shown = call("evaluate", run.path, "--format", "json")
    assert json.loads(shown.stdout)["test"]["accuracy"] == run.metrics["test"]["accuracy"]
    assert call("evaluate", run.path, "--split", "validation").returncode == 0
    wrong = call("evaluate", run.path, "--split", "tst")
    assert (wrong.returncode, "Did you mean 'test'" in wrong.stderr) == (2, True)


def rows_of(shown: subprocess.CompletedProcess[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in shown.stdout.splitlines()]


def test_predictions_come_in_the_order_given_with_their_paths(run: ta.Run, two_shapes: Path) -> None:
    paths = [str(p) for p in sorted(two_shapes.rglob("*.png"))[::-7]]
    rows = rows_of(call("predict", run.path, *paths, "--format", "jsonl", "--batch-size", "2"))
    assert [row["path"] for row in rows] == paths
    expected = run.predict(paths)
    assert [row["label"] for row in rows] == [p.label for p in expected]


def test_the_formats_say_the_same(run: ta.Run, two_shapes: Path, tmp_path: Path) -> None:
    folder = two_shapes / "disc"
    lines = rows_of(call("predict", run.path, folder, "--format", "jsonl"))
    assert json.loads(call("predict", run.path, folder, "--format", "json").stdout) == lines
    table = call("predict", run.path, folder, "--format", "csv").stdout.splitlines()
    assert table[0] == "path,label,probability,verdict,distance,disc,stripes,warning,error"
    assert [row.split(",")[1] for row in table[1:]] == [line["label"] for line in lines]
    assert len(call("predict", run.path, folder).stdout.splitlines()) == 30
    assert call("predict", run.path, folder, "--format", "csv", "--out", tmp_path / "x.csv").stdout == ""
    assert (tmp_path / "x.csv").read_text().splitlines() == table


def test_a_broken_image_is_a_row_with_its_error_and_exit_code_1(run: ta.Run, two_shapes: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"bad")
    good = next(iter(sorted(two_shapes.rglob("*.png"))))
    shown = call("predict", run.path, tmp_path / "bad.jpg", good, tmp_path / "gone.jpg", "--format", "jsonl")
    assert shown.returncode == 1
    rows = rows_of(shown)
    assert ["error" in row for row in rows] == [True, False, True]
    assert str(rows[0]["error"]).startswith("not an image")
    assert "2 images could not be read" in shown.stderr


def test_a_zip_a_pattern_and_standard_input_name_images(run: ta.Run, two_shapes: Path, tmp_path: Path) -> None:
    paths = sorted((two_shapes / "disc").glob("*.png"))[:4]
    with zipfile.ZipFile(tmp_path / "some.zip", "w") as archive:
        for path in paths:
            archive.write(path, f"deep/{path.name}")
    zipped = rows_of(call("predict", run.path, tmp_path / "some.zip", "--format", "jsonl"))
    piped = rows_of(call("predict", run.path, "-", "--format", "jsonl", stdin="".join(f"{p}\n" for p in paths)))
    matched = rows_of(call("predict", run.path, f"{two_shapes}/disc/disc [0-3].png", "--format", "jsonl"))
    labels = {Path(str(row["path"])).name: row["probability"] for row in piped}
    assert {Path(str(row["path"])).name: row["probability"] for row in zipped} == labels
    assert len(matched) == 4
    nothing = call("predict", run.path, f"{two_shapes}/nothing*.png")
    assert (nothing.returncode, "Nothing matches" in nothing.stderr) == (2, True)


def test_the_onnx_file_alone_predicts(run: ta.Run, two_shapes: Path) -> None:
    image = next(iter(sorted(two_shapes.rglob("*.png"))))
    alone = rows_of(call("predict", run.onnx_file, image, "--format", "jsonl"))
    assert alone == rows_of(call("predict", run.path, image, "--format", "jsonl"))


def test_a_reader_that_goes_away_is_no_error(run: ta.Run, two_shapes: Path) -> None:
    line = f"{' '.join(COMMAND[:2])} '{COMMAND[2]}' predict {run.path} '{two_shapes}' | head -n 1"
    shown = subprocess.run(line, shell=True, capture_output=True, text=True, check=False)
    assert len(shown.stdout.splitlines()) == 1
    assert shown.stderr == ""


def test_a_file_is_written_in_the_format_of_its_name_and_named(run: ta.Run, two_shapes: Path, tmp_path: Path) -> None:
    shown = call("predict", run.path, two_shapes, "--out", "answers.csv", cwd=tmp_path)
    assert "written as csv to answers.csv" in shown.stderr
    lines = (tmp_path / "answers.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("path,label,probability")
    assert len(lines) == 61


def test_one_image_that_cannot_be_read_is_told_as_one(run: ta.Run, tmp_path: Path) -> None:
    shown = call("predict", run.path, tmp_path / "gone.png")
    assert shown.returncode == 1
    assert "1 image could not be read; its row says why" in shown.stderr


def test_an_image_in_the_place_of_the_run_is_named_as_what_it_is(run: ta.Run, two_shapes: Path) -> None:
    image = next(two_shapes.rglob("*.png"))
    shown = call("predict", image, run.path)
    assert shown.returncode == 2
    assert "is neither a run nor an .onnx file. Name the run first" in shown.stderr


def test_the_answer_of_training_says_whether_to_rely_on_it(run: ta.Run, capsys: pytest.CaptureFixture[str]) -> None:
    from tellapart.cli.options import OutputFormat
    from tellapart.cli.train import show_run
    from tellapart.report.write import verdict_of

    show_run(run, OutputFormat.table)
    said = " ".join(capsys.readouterr().out.split())
    conclusion = verdict_of(run).conclusion
    assert conclusion in said
    assert conclusion.replace("&", "&amp;") in run.report_file.read_text(encoding="utf-8")


def test_training_ends_with_what_more_time_would_be_spent_on(
    run: ta.Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tellapart.cli.train import show_outlook
    from tellapart.experiments import outlook

    assert run.record.image_seconds
    monkeypatch.setattr(outlook, "NOTHING_LEFT", 0.0)
    show_outlook(run)
    assert capsys.readouterr().out.startswith("more    --time 5m would also try")
    monkeypatch.setattr(outlook, "NOTHING_LEFT", run.record.calibration["validation_loss"] + 0.1)
    show_outlook(run)
    assert capsys.readouterr().out.startswith("more    --time would hardly gain")


def test_check_says_what_to_type_next(two_shapes: Path, tmp_path: Path) -> None:
    shown = call("check", two_shapes)
    assert f"next    tellapart train '{two_shapes}'" in shown.stdout
    table = tmp_path / "our list.csv"
    table.write_text("Datei Name,Art\n" + "".join(f"{p},x{n % 2}\n" for n, p in enumerate(two_shapes.rglob("*.png"))))
    shown = call("check", table, "--path-column", "Datei Name", "--label-column", "Art")
    assert f"train '{table}' --path-column 'Datei Name' --label-column Art" in " ".join(shown.stdout.split())


def test_runs_models_and_recipes_are_listed_in_both_formats(run: ta.Run) -> None:
    rows = json.loads(call("runs", run.path.parent, "--format", "json").stdout)
    assert [(row["status"], row["model"]) for row in rows] == [("done", "cnn")]
    assert "cnn" in call("runs", run.path.parent).stdout
    assert json.loads(call("runs", run.path.parent, "--where", "accuracy>1", "--format", "json").stdout) == []
    assert "No runs in" in call("runs", run.path.parent, "--where", "model=dense", "--sort", "accuracy").stdout
    models = {row["name"] for row in json.loads(call("models", "--format", "json").stdout)}
    assert models >= {"dense", "cnn", "efficientnet-lite0", "inception-v3"}
    recipes = json.loads(call("recipes", "--format", "json").stdout)
    assert {row["name"] for row in recipes} >= {"cats-dogs-64", "fashion-conv"}
    assert "filters = " in call("recipes", "cats-dogs-64").stdout
    assert "photos/" in call("layouts").stdout


def test_the_options_and_layers_of_a_model_are_shown() -> None:
    pytest.importorskip("keras")
    shown = call("models", "cnn", "--set", "model.filters=[4, 8]", "--image-size", "32")
    assert shown.returncode == 0, shown.stderr
    assert "model.filters" in shown.stdout
    assert "convolution_2   Conv2D" in shown.stdout


def test_a_pretrained_backbone_is_shown_with_its_image_scaling_weights_and_licence() -> None:
    pytest.importorskip("keras")
    shown = call("models", "mobilenet-v2", "--image-size", "32", "--format", "json")
    assert shown.returncode == 0, shown.stderr
    described = json.loads(shown.stdout)
    assert described["scaling"] == "-1 to 1"
    assert described["image"] == "224x224, at least 32x32, fit squash"
    assert described["weights"].startswith("downloaded once: mobilenet_v2_weights_")
    assert described["licence"] == "Apache-2.0, of the weights"
    shown = call("models", "efficientnet-lite0", "--image-size", "32").stdout
    assert "weights  inside the package" in shown
    assert "model.dropout" in shown
    assert "GlobalAveragePooling2D" in shown


def test_weights_for_a_network_trained_from_nothing_are_refused_before_any_image_is_read(two_shapes: Path) -> None:
    shown = call("train", two_shapes, "--model", "cnn", "--weights", "imagenet")
    assert shown.returncode == 2
    assert "cnn is trained from scratch and takes no weights; given 'imagenet'" in shown.stderr


def test_a_report_is_written_again(run: ta.Run) -> None:
    before = run.report_file.read_text()
    run.report_file.unlink()
    assert call("report", run.path).stdout.strip() == str(run.report_file)
    assert len(run.report_file.read_text()) > 0.9 * len(before)
    assert call("report", "--all", run.path.parent).stdout.strip() == str(run.path.parent / "index.html")


@pytest.mark.slow
def test_the_demo_does_the_whole_job_offline(tmp_path: Path) -> None:
    pytest.importorskip("keras")
    shown = call("demo", "--fast", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "accuracy" in shown.stdout
    assert (tmp_path / "runs" / "demo-1" / "report.html").exists()


def test_check_writes_corrections_only_with_deep(two_shapes: Path, tmp_path: Path) -> None:
    shown = call("check", two_shapes, "--write", tmp_path / "c.csv")
    assert shown.returncode == 2
    assert "Give both options" in shown.stderr
    assert not (tmp_path / "c.csv").exists()


def test_check_does_not_write_over_corrections_that_a_person_may_have_edited(two_shapes: Path, tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.write_text("path,action,label\ndisc/disc 0.png,drop,\n")
    shown = call("check", two_shapes, "--deep", "--write", path)
    assert shown.returncode == 2
    assert "may hold decisions of a person" in shown.stderr
    assert path.read_text().endswith("disc 0.png,drop,\n")
    other = call("check", two_shapes, "--deep", "--write", path, "--corrections", tmp_path / "none.csv")
    assert other.returncode == 2


def test_check_and_train_apply_corrections_and_name_what_is_wrong_with_them(two_shapes: Path, tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.write_text("path,action,label\ndisc/disc 0.png,relabel,stripes\ndisc/disc 1.png,drop,\n")
    shown = call("check", two_shapes, "--corrections", path, "--format", "json")
    assert shown.returncode == 0, shown.stderr
    told = json.loads(shown.stdout)
    assert told["images"] == 59
    assert [f["meaning"] for f in told["findings"] if f["kind"] == "corrected"] == [
        "Corrections of c.csv: 1 relabelled, 1 dropped."
    ]
    path.write_text("path,action\ndisc/disk 0.png,drop\n")
    refused = call("train", two_shapes, "--corrections", path, "--out", tmp_path / "run")
    assert refused.returncode == 2
    assert "disc/disk 0.png is not among the 60 images" in refused.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_deep_check_finds_tells_and_proposes(tmp_path: Path) -> None:
    pytest.importorskip("cleanlab")
    from tests.faults import make_faults

    faults = make_faults("builtin:pets", tmp_path / "photos")
    shown = call("check", tmp_path / "photos", "--deep", "--write", tmp_path / "c.csv")
    assert shown.returncode == 1, shown.stderr
    for kind in ("near-leaking", "suspect-label", "outlier", "blank", "dark", "blurred", "tiny"):
        assert kind in shown.stdout
    assert f"tellapart train {tmp_path / 'photos'} --corrections {tmp_path / 'c.csv'}" in shown.stdout
    rows = (tmp_path / "c.csv").read_text().splitlines()
    assert rows[0] == "path,action,label,group,reason"
    assert sum(row.split(",")[0] in faults.spoiled["blank"] for row in rows) == 5
