"""The fuzz targets in a few seconds, without Atheris: every seed, many small changes of each, and the judge itself.

The minutes that each target is searched are `make fuzz` and a step of .ci/run; docs/soak.md tells what came of it.
"""

from __future__ import annotations

import importlib.util
import re
import socket
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz import seeds, targets
from tests.fuzz.__main__ import HEADING, PAGE, ROOT, train
from tests.fuzz.found import FOUND
from tests.fuzz.oracle import fault
from tests.fuzz.planted import TARGETS as PLANTED
from tests.fuzz.repair import repaired
from tests.fuzz.target import Target
from tests.fuzz.targets import TARGETS

BY_NAME = {target.name: target for target in TARGETS}
# A network may crash the runtime below, and a server is a process of its own: these are searched by __main__ alone.
APART = {"networks", "requests"}
INSIDE = [target for target in TARGETS if target.name not in APART]


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("keras")
    return train(tmp_path_factory.mktemp("fuzz"))


@pytest.fixture(scope="session")
def prepared(run: Path) -> dict[str, list[bytes]]:
    """The seeds of each target, which is ready for them."""
    for target in INSIDE:
        if target.prepare is not None:
            target.prepare(run)
    return {target.name: list(target.seeds(run).values()) for target in TARGETS}


def judged(target: Target, data: bytes) -> tuple[str, str]:
    with tempfile.TemporaryDirectory() as folder:
        return fault(target, data, Path(folder))


@pytest.mark.parametrize("target", INSIDE, ids=lambda target: target.name)
def test_every_seed_is_taken_or_refused_in_our_words_and_some_are_taken(
    target: Target, prepared: dict[str, list[bytes]]
) -> None:
    found = [judged(target, data) for data in prepared[target.name]]
    assert [what for place, what in found if place] == []
    assert "accepted" in [told for _, told in found]


changes = st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=6), st.integers(0, 40)), min_size=1, max_size=4)


def changed(data: bytes, edits: list[tuple[float, bytes, int]]) -> bytes:
    """Each edit puts bytes in the place of others; where none are put and many go, the rest is cut off."""
    for share, put, gone in edits:
        place = int(share * len(data))
        data = data[:place] + put + (b"" if not put and gone == 40 else data[place + gone :])
    return data


@pytest.mark.parametrize("target", INSIDE, ids=lambda target: target.name)
@given(st.integers(0, 10_000), changes, st.booleans())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_file_is_taken_or_refused_in_our_words(
    target: Target, prepared: dict[str, list[bytes]], number: int, edits: list[tuple[float, bytes, int]], whole: bool
) -> None:
    some = prepared[target.name]
    data = changed(some[number % len(some)], edits)
    place, what = judged(target, repaired(data) if whole else data)
    assert not place, what


@pytest.mark.parametrize("what", FOUND)
def test_what_the_search_found_is_refused_in_our_words(what: str, prepared: dict[str, list[bytes]]) -> None:
    name, shown = FOUND[what]
    place, told = judged(BY_NAME[name], shown(prepared[name]))
    assert not place, told
    assert told != "accepted"


@pytest.mark.parametrize("name", ["raises", "writes", "starts"])
def test_the_judge_sees_what_is_not_allowed(name: str) -> None:
    target = next(row for row in PLANTED if row.name == name)
    assert judged(target, b"a") == ("", "accepted")
    place, what = judged(target, b"b")
    assert place
    assert {"raises": "KeyError", "writes": "outside", "starts": "os.system"}[name] in what


def test_the_judge_sees_a_name_looked_up_or_called_even_where_the_error_is_swallowed() -> None:
    def calls(_: bytes, __: Path) -> None:
        try:
            socket.create_connection(("example.invalid", 80))
        except OSError:
            return

    place, what = judged(replace(PLANTED[0], run=calls), b"")
    assert (place, "socket.getaddrinfo" in what) == ("socket.getaddrinfo", True)


def test_the_judge_lets_a_reader_write_into_its_own_folder(tmp_path: Path) -> None:
    def writes(_: bytes, folder: Path) -> None:
        (folder / "a").mkdir()
        (folder / "a" / "b").write_text("x")
        (folder / "a" / "b").rename(folder / "c")
        with tempfile.TemporaryDirectory(dir=folder):
            pass

    assert fault(replace(PLANTED[0], run=writes), b"", tmp_path) == ("", "accepted")


def test_check_sums_are_put_right() -> None:
    """So that a changed PNG is decoded, and a changed tar unpacked, not refused at once."""
    image = seeds.images()["PNG RGB"]
    place = image.index(b"IHDR") + 12  # its last byte of height and the depth
    wrong = image[: place + 4] + b"\1" + image[place + 5 :]
    assert repaired(image) == image
    assert repaired(wrong) != wrong
    bundle = seeds.archives()["tar"]
    renamed = bundle.replace(b"cat/0.png", b"cow/0.png", 1)
    assert repaired(bundle) == bundle
    assert judged(BY_NAME["archives"], renamed)[1] != "accepted"
    assert judged(BY_NAME["archives"], repaired(renamed))[1] == "accepted"


@pytest.mark.slow
def test_a_search_finds_each_planted_fault_and_keeps_what_finds_it(tmp_path: Path, run: Path) -> None:
    if importlib.util.find_spec("atheris") is None:
        pytest.skip("Atheris is not made for this machine")
    out = tmp_path / "faults"
    planted = [sys.executable, "-m", "tests.fuzz", "--table", "tests.fuzz.planted", "--run", str(run)]
    searched = ask([*planted, "--seconds", "4", "--jobs", "2", "--out", str(out)])
    told = {line.split(" | ")[0]: line.split(" | ")[3] for line in searched.stdout.splitlines()}
    assert searched.returncode == 1, searched.stderr
    assert told["raises"].startswith("KeyError in ")
    assert told["writes"].startswith("writes")
    assert told["starts"].startswith("os.system")
    assert told["hangs"].startswith("timeout")
    assert told["grows"].startswith("oom")
    assert told["crashes"].startswith("crash")
    (kept,) = (path for path in out.glob("raises-fault-*") if not path.suffix)
    again = ask([*planted, "--only", "raises", "--input", str(kept)])
    assert again.returncode == 1
    assert "KeyError" in again.stdout


def ask(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_a_server_answers_every_seed(run: Path) -> None:
    target = BY_NAME["requests"]
    assert target.prepare is not None
    target.prepare(run)
    server = targets._Serving.server
    try:
        for data in target.seeds(run).values():
            place, what = judged(target, data)
            assert not place, what
        targets._ask_whether_ready(server)
    finally:
        server.process.kill()
        server.process.communicate()


def test_the_page_tells_what_was_searched() -> None:
    part = PAGE.read_text("utf-8").partition(f"\n{HEADING}\n")[2]
    rows = re.findall(r"^\| ([a-z ]+) \| ([0-9,]+) \| ([0-9,]+) \| (.+) \|$", part, re.MULTILINE)
    assert [name for name, *_ in rows if name != "entry point"] == [target.name for target in TARGETS]
    assert all(int(inputs.replace(",", "")) > 0 for _, inputs, *_ in rows)
