"""predict --resume: rows come one by one, and a kill costs none and doubles none."""

from __future__ import annotations

import csv
import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

import tellapart as ta
from tests.command import STRICT

SETTINGS = ["model.name=cnn", "image.height=24", "image.width=24", "model.filters=[4]", "model.dense=[4]"]


def trained(data: Path, out: Path, seed: int = 0) -> ta.Run:
    pytest.importorskip("keras")
    return ta.train(data, out=out, config=ta.make_config(settings=[*SETTINGS, "train.epochs=1"], seed=seed))


@pytest.fixture(scope="module")
def run(two_shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> ta.Run:
    return trained(two_shapes, tmp_path_factory.mktemp("runs") / "run")


def call(*arguments: str | Path, stdin: bytes = b"") -> subprocess.CompletedProcess[str]:
    done = subprocess.run([*STRICT, "predict", *map(str, arguments)], input=stdin, capture_output=True, check=False)
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


@pytest.fixture(scope="module")
def stream(two_shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Paths as on standard input: the same images again and again, broken and missing ones among them."""
    folder = tmp_path_factory.mktemp("odd")
    (folder / 'broken, and quoted ".jpg').write_bytes(b"\xff\xd8\xff broken")
    paths = [os.fsencode(path) for path in sorted(two_shapes.rglob("*.png"))]
    paths[7::20] = [os.fsencode(folder / 'broken, and quoted ".jpg')] * len(paths[7::20])
    paths[9::30] = [os.fsencode(folder) + b"/missing \xff.jpg"] * len(paths[9::30])
    return b"".join(path + b"\n" for path in paths * 25)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_killed_at_random_moments_it_ends_as_one_never_stopped(
    run: ta.Run, stream: bytes, tmp_path: Path, suffix: str
) -> None:
    whole, killed, given = tmp_path / f"whole{suffix}", tmp_path / f"killed{suffix}", tmp_path / "paths"
    given.write_bytes(stream)
    done = call(run.path, "-", "--resume", whole, stdin=stream)
    assert done.returncode == 1, done.stderr
    total, wanted = len(stream.splitlines()), whole.read_bytes()
    assert wanted.count(b"\n") == total + (suffix == ".csv")

    chance, stopped = random.Random(0), 0
    for kill in range(6):
        aim = len(wanted) * (kill + chance.random()) / 8
        with (
            given.open("rb") as paths,
            subprocess.Popen([*STRICT, "predict", str(run.path), "-", "--resume", str(killed)], stdin=paths) as process,
        ):
            until = time.monotonic() + 120
            while process.poll() is None and (not killed.exists() or killed.stat().st_size < aim):
                assert time.monotonic() < until
            process.kill()
        stopped += process.returncode == -signal.SIGKILL and killed.stat().st_size < len(wanted)
        with killed.open("ab") as file:  # as a fuller disk or a larger row would leave it
            file.write(wanted[killed.stat().st_size :][: chance.randrange(40)])
    done = call(run.path, "-", "--resume", killed, stdin=stream)
    assert done.returncode == 1
    assert "continuing after" in done.stderr
    assert stopped >= 3  # a process may be through before the kill comes, where the machine is busy
    assert killed.read_bytes() == wanted
    again = call(run.path, "-", "--resume", killed, stdin=stream)
    assert f"continuing after {total} rows" in again.stderr
    assert killed.read_bytes() == wanted
    errors = sum(b"missing" in path or b"broken" in path for path in stream.splitlines())
    assert f"{errors} images could not be read" in again.stderr
    assert again.returncode == 1


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_a_last_row_cut_at_any_byte_is_written_again(
    run: ta.Run, two_shapes: Path, tmp_path: Path, suffix: str
) -> None:
    from tellapart.cli.predict_output import write
    from tellapart.cli.predict_resume import format_of, resumed
    from tellapart.inference.inputs import find_images

    odd = tmp_path / "odd"
    odd.mkdir()
    source = next(two_shapes.rglob("*.png")).read_bytes()
    for name in ("1 plain.png", '2 a "quoted", name.png', "3 a line\nbreak.png", "4 return\rhere.png", "5 ü.png"):
        (odd / name).write_bytes(source)
    (odd / "6 broken.png").write_bytes(b"broken")
    predictor, path = run.predictor(), tmp_path / f"rows{suffix}"

    def go_on() -> int:
        with resumed(path, predictor, format_of(path, None)) as earlier:
            predictions = predictor.predict_named(earlier.left(find_images([odd])))
            write(earlier.file, predictions, predictor.task.classes, format_of(path, None), header=False)
            return earlier.rows

    assert go_on() == 0
    wanted = path.read_bytes()
    for size in range(len(wanted), -1, -1):
        path.write_bytes(wanted[:size])
        rows = go_on()
        assert path.read_bytes() == wanted, size
        assert (rows == 6) == (size == len(wanted))


def test_rows_stand_in_the_file_before_the_stream_ends(run: ta.Run, two_shapes: Path, tmp_path: Path) -> None:
    images = [str(path) for path in sorted(two_shapes.rglob("*.png"))]
    out = tmp_path / "new" / "rows.jsonl"
    with subprocess.Popen(
        [*STRICT, "predict", str(run.path), "-", "--resume", str(out)], stdin=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        process.stdin.write("".join(f"{path}\n" for path in images).encode())
        process.stdin.flush()
        until = time.monotonic() + 120
        while not out.exists() or len(out.read_text().splitlines()) < 8:
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.01)
        second = call(run.path, images[0], "--resume", out)
        assert (second.returncode, "Another process is writing" in second.stderr) == (2, True)
        errors = process.communicate()[1]
    assert process.returncode == 0
    assert b"tellapart: written as jsonl to " in errors
    assert [json.loads(line)["path"] for line in out.read_text().splitlines()] == images


def test_more_images_are_added_and_one_named_twice_has_two_rows(run: ta.Run, two_shapes: Path, tmp_path: Path) -> None:
    one, two, three = sorted(str(path) for path in two_shapes.rglob("*.png"))[:3]
    out = tmp_path / "rows.csv"
    for images in ([one, one, two], [three, one, two, one], [three, one, two, one, two]):
        done = call(run.path, *images, "--resume", out)
        assert done.returncode == 0, done.stderr
    with out.open(newline="") as file:
        assert [row["path"] for row in csv.DictReader(file)] == [one, one, two, three, two]
    plain = call(run.path, one, "--format", "csv").stdout
    assert out.read_text().startswith(plain)


def test_a_file_that_does_not_fit_the_run_is_refused_and_kept(run: ta.Run, two_shapes: Path, tmp_path: Path) -> None:
    image, out = next(two_shapes.rglob("*.png")), tmp_path / "rows.csv"
    other = trained(two_shapes, tmp_path / "other", seed=1)
    assert call(run.path, image, "--resume", out).returncode == 0
    beside, kept = tmp_path / "rows.csv.json", out.read_bytes()
    assert json.loads(beside.read_text())["classes"] == ["disc", "stripes"]

    def refused(*arguments: str | Path, says: str) -> None:
        done = call(*arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert says in done.stderr
        assert "Traceback" not in done.stderr

    refused(other.path, image, "--resume", out, says="are from another network")
    assert out.read_bytes() == kept
    out.write_bytes(kept.replace(b"stripes", b"squares", 1))
    refused(run.path, image, "--resume", out, says="Line 1 of")
    out.write_bytes(kept + b"one,cell,more,,,,,,,\n")
    refused(run.path, image, "--resume", out, says="Line 3 of")
    out.write_bytes(kept)
    beside.unlink()
    refused(run.path, image, "--resume", out, says="rows.csv.json, which records the network they are from, is missing")
    lines = tmp_path / "rows.jsonl"
    lines.write_text('{"path": "x", "probabilities": {"cat": 1}}\n')
    refused(run.path, image, "--resume", lines, says="objects with the classes disc, stripes")
    refused(run.path, image, "--resume", tmp_path / "rows.txt", says=".csv or .jsonl")
    refused(run.path, image, "--resume", out, "--format", "jsonl", says="--format jsonl")
    refused(run.path, image, "--resume", out, "--out", tmp_path / "x.csv", says="Give one of them")
    refused(run.path, image, "--resume", two_shapes / "disc.csv" / "x.csv" / ".." / "..", says="ends in .csv")
    assert out.read_bytes() == kept
