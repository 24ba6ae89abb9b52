"""One network on several devices: what each process makes of a batch, and how processes meet and end."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tellapart as ta
from tellapart.api.datasets import catalog_of, source_of
from tellapart.api.devices import ALONE, Team, refuse_launched
from tellapart.config import AugmentConfig, TrainConfig
from tellapart.data.batches import Batches, Share
from tellapart.data.cache import PixelCache
from tellapart.errors import ConfigError, TrainingError
from tellapart.files import to_json
from tellapart.models import backend
from tellapart.models.devices import Devices
from tellapart.runs.run import RunFolder, create_run
from tellapart.training.launchers import Place, place_of
from tellapart.training.plan import decide
from tellapart.training.processes import crew_of
from tests.command import COMMAND
from tests.training.several import SET, environment, free_address, started, trained_in_two
from tests.training.test_kill import kill_when

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "several-devices.md"
SLURM = {"SLURM_PROCID": "2", "SLURM_NTASKS": "4", "SLURM_STEP_NODELIST": "gpu[07-09,12],big1", "SLURM_JOB_ID": "5000"}
TORCH = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "node7", "MASTER_PORT": "29500"}
OWN = {"TELLAPART_RANK": "0", "TELLAPART_WORLD": "3", "TELLAPART_COORDINATOR": "10.0.0.1:4000"}


class Numbers:
    """Rows that are their own numbers, as images of one pixel."""

    def __len__(self) -> int:
        return 22

    def take(self, rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return rows[:, None, None, None].astype(np.uint8)


@pytest.mark.parametrize(("world", "devices"), [(1, 1), (1, 4), (2, 2), (2, 4), (4, 4)])
@pytest.mark.parametrize("steps", [None, 3])
def test_the_shares_of_all_processes_are_the_batch_of_one(world: int, devices: int, steps: int | None) -> None:
    def batches(rank: int, of: int) -> Batches:
        share = Share(rank, of, devices if of > 1 else 1)
        labels = np.zeros((22, 1), np.float32)
        augment = AugmentConfig(brightness=0.5)
        return Batches(Numbers(), labels, 8, shuffle=True, augment=augment, steps=steps, share=share)

    whole, parts = batches(0, 1), [batches(rank, world) for rank in range(world)]
    for epoch in range(2):
        for index in range(len(whole)):
            expected, _ = whole.batch(index, epoch)
            shares = [part.batch(index, epoch)[0] for part in parts]
            if len(expected) % devices and world > 1:  # a short last one, which each computes whole
                assert all(np.array_equal(share, expected) for share in shares)
            else:
                np.testing.assert_array_equal(np.concatenate(shares), expected)
            assert whole.size(index) == parts[0].size(index) == len(expected)


@pytest.mark.parametrize(
    ("variables", "place"),
    [
        ({}, None),
        (OWN, Place(0, 3, "10.0.0.1", 4000)),
        (OWN | {"TELLAPART_COORDINATOR": "[::1]:80"}, Place(0, 3, "::1", 80)),
        (TORCH, Place(1, 2, "node7", 29500)),
        (TORCH | {"TORCHELASTIC_USE_AGENT_STORE": "True"}, Place(1, 2, "node7", 29501)),
        (SLURM, Place(2, 4, "gpu07", 61440 + 5000 % 4096)),
        (SLURM | {"SLURM_STEP_NODELIST": "one,two"}, Place(2, 4, "one", 61440 + 5000 % 4096)),
        ({name: SLURM[name] for name in SLURM if name != "SLURM_STEP_NODELIST"}, None),  # a job's script, without srun
        (SLURM | TORCH, Place(1, 2, "node7", 29500)),
        (SLURM | {"SLURM_NTASKS": "1", "SLURM_PROCID": "0"}, None),
    ],
)
def test_the_variables_of_every_launcher_give_the_place_of_a_process(
    variables: dict[str, str], place: Place | None
) -> None:
    assert place_of(variables) == place


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({"TELLAPART_RANK": "1"}, "not TELLAPART_WORLD and TELLAPART_COORDINATOR"),
        ({name: TORCH[name] for name in ("RANK", "MASTER_ADDR", "MASTER_PORT")}, "not WORLD_SIZE"),
        ({name: SLURM[name] for name in SLURM if name != "SLURM_PROCID"}, "not SLURM_PROCID"),
        (OWN | {"TELLAPART_RANK": "3"}, "TELLAPART_RANK is 3; of 3 processes"),
        (OWN | {"TELLAPART_RANK": "one"}, "expected a whole number"),
        (OWN | {"TELLAPART_COORDINATOR": "10.0.0.1"}, "must give HOST:PORT"),
        (OWN | {"TELLAPART_COORDINATOR": "10.0.0.1:70000"}, "must give HOST:PORT"),
        (SLURM | {"SLURM_JOB_ID": "x"}, "SLURM_JOB_ID"),
    ],
)
def test_variables_that_are_half_set_or_wrong_are_told(variables: dict[str, str], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        place_of(variables)


def test_a_process_of_several_does_not_train_alone_by_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TELLAPART_RANK", "0")
    with pytest.raises(ConfigError, match="--devices all"):
        refuse_launched()


@pytest.mark.parametrize(("size", "near"), [(30, "28 or 32"), (3, "4")])
def test_a_batch_that_does_not_divide_is_told_with_the_nearest_that_do(size: int, near: str) -> None:
    with pytest.raises(ConfigError, match=f"does not divide by 4 devices. Give {near}."):
        Devices(4).require_divides(TrainConfig(batch_size=size))
    Devices(4).require_divides(TrainConfig(batch_size=32))


def test_what_only_one_device_trains_is_refused() -> None:
    team = Team(Devices(2))
    with pytest.raises(ConfigError, match="computed once, by one device"):
        team.require(ta.make_config(model="efficientnet-lite0"))
    team.require(ta.make_config(model="efficientnet-lite0", fine_tune=1))
    crew: Any = object()
    with pytest.raises(ConfigError, match="devices of one machine"):
        Team(Devices(2, 0, 2), crew).require(ta.make_config(model="efficientnet-lite0", fine_tune=1))
    with pytest.raises(ConfigError, match="time budget"):
        team.require(ta.make_config(model="cnn"), 60)
    with pytest.raises(ConfigError, match="does not lead"):
        Team(Devices(2, 1, 2)).require(ta.make_config(model="cnn"))
    ALONE.require(ta.make_config(model="efficientnet-lite0"), 60)


def test_without_jax_the_extra_is_named() -> None:
    script = (
        "import importlib.util as util; real = util.find_spec\n"
        "util.find_spec = lambda name, *more: None if name == 'jax' else real(name, *more)\n"
        "from tellapart.models.backend import choose_jax\n"
        "choose_jax('Training on several devices')"
    )
    env = {name: value for name, value in os.environ.items() if name != "KERAS_BACKEND"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=env, check=False)
    assert "pip install 'tellapart[jax]'" in done.stderr


def place(rank: int, world: int, address: str) -> Place:
    host, _, port = address.rpartition(":")
    return Place(rank, world, host, int(port))


@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_waits_in_vain_says_for_whom(rank: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TELLAPART_WAIT", "0.4")
    began = time.monotonic()
    told = "1, 2 did not come" if rank == 0 else "found no process 0"
    with pytest.raises(ConfigError, match=told), crew_of(place(rank, 3, free_address())):
        pass
    assert time.monotonic() - began < 5


def reached(there: Place) -> socket.socket:
    """A connection, as soon as something listens."""
    deadline = time.monotonic() + 10
    while True:
        try:
            return socket.create_connection((there.host, there.port), 5)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def refuse(*_: object) -> None:
    raise ConfigError("Nobody joins here.")


@pytest.mark.parametrize(
    ("hello", "told"),
    [
        ({"rank": 1, "world": 2, "versions": {}}, "process 0 has"),
        ({"rank": 1, "world": 3}, "was told of 3 processes"),
        ({"rank": 5, "world": 2}, "has a number that another one has"),
    ],
)
def test_a_process_with_other_versions_or_numbers_is_told_to_both(
    hello: dict[str, Any], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TELLAPART_WAIT", "20")
    monkeypatch.setattr(backend, "join", refuse)  # JAX would end the tests
    here, refused = place(0, 2, free_address()), []

    def lead() -> None:
        with suppress(ConfigError), crew_of(here):
            pass

    leading = threading.Thread(target=lead)
    leading.start()
    strangers = [b"GET / HTTP/1.0\r\n\r\n", b"[" * 50_000 + b"\n", b'{"bytes": 0, "rank": 1e999}\n', b'{"bytes": -1}\n']
    for stranger in (*strangers, None):
        with reached(here) as connection:
            words = {"host": "there", "machine": "x", "visible": None, "versions": {}, **hello, "bytes": 0}
            connection.sendall(stranger or to_json(words).encode() + b"\n")
            refused.append(connection.makefile().readline())
    leading.join()
    assert refused[:-1] == [""] * len(strangers)
    assert told in json.loads(refused[-1])["end"]


class Refusing:
    """Process 0, as far as another one that has not its images sees it."""

    def __init__(self, images: Path) -> None:
        self.images = images

    def receive(self, folder: Path) -> RunFolder:
        config = ta.make_config(model="cnn", image_size=16)
        source = source_of(self.images, config)
        plan = decide(config, source)
        with PixelCache(plan.spec) as cache:
            run = create_run(folder, plan, catalog_of(source, plan.config, cache, ta.SILENT))
        (self.images / run.catalog.images[7].path).write_bytes(b"another image")
        return run

    def answer(self, problem: str) -> None:
        raise TrainingError(problem)


def test_a_process_with_other_images_says_which_before_training(shapes: Path, tmp_path: Path) -> None:
    crew: Any = Refusing(shutil.copytree(shapes, tmp_path / "photos"))
    with pytest.raises(TrainingError, match=r"1 of 60 images in .* are missing or others .* first: disc/"):
        Team(Devices(2, 1, 2), crew).take_part(progress=ta.SILENT)


needs_jax = pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="JAX is not installed")


def losses(run: Path) -> np.ndarray[Any, Any]:
    return np.array([[row.loss, row.val_loss] for row in ta.open_run(run).history])


@pytest.fixture(scope="module")
def on_one(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("one") / "run"
    words = [*COMMAND, "train", str(shapes), "--out", str(out), *SET]
    done = subprocess.run(words, env=environment(0, 1, ""), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return out


@needs_jax
@pytest.mark.soak
def test_four_devices_of_one_machine_and_of_two_processes_learn_what_one_learns(
    on_one: Path, shapes: Path, tmp_path: Path
) -> None:
    words = ["train", str(shapes), *SET, "--devices", "all", "--out"]
    env = environment(0, 1, "", devices=4)
    done = subprocess.run(
        [*COMMAND, *words, str(tmp_path / "four")], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "trained on 4 devices, each" in " ".join(ta.open_run(tmp_path / "four").record.decided)
    np.testing.assert_allclose(losses(tmp_path / "four"), losses(on_one), atol=1e-4)
    for code, said in trained_in_two([*words, str(tmp_path / "two")], devices=2):
        assert code == 0, said
    np.testing.assert_allclose(losses(tmp_path / "two"), losses(on_one), atol=1e-4)


@needs_jax
@pytest.mark.soak
@pytest.mark.parametrize("on", ["images", "activations"])
def test_two_devices_fine_tune_as_one_does(on: str, shapes: Path, tmp_path: Path) -> None:
    settings = ("train.fine_tune=1", f"train.fine_tune_on={on}", "train.epochs=2", "train.batch_size=8")
    size = ("image.height=32", "image.width=32", "train.precision=float32")
    words = [*COMMAND, "train", str(shapes), *[part for setting in (*settings, *size) for part in ("--set", setting)]]
    for devices, more in ((1, []), (2, ["--devices", "all"])):
        env = environment(0, 1, "", devices)
        out = ["--out", str(tmp_path / str(devices))]
        done = subprocess.run([*words, *more, *out], env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    one, two = (ta.open_run(tmp_path / name) for name in "12")
    assert [row.phase for row in two.history][-2:] == ["fine-tune", "fine-tune"]
    np.testing.assert_allclose(losses(two.path), losses(one.path), atol=1e-3)


@needs_jax
@pytest.mark.soak
@pytest.mark.parametrize("killed", [0, 1])
def test_after_the_end_of_one_process_the_run_resumes_with_any_number(
    killed: int, on_one: Path, shapes: Path, tmp_path: Path
) -> None:
    out, address = tmp_path / "run", free_address()
    words = ["train", str(shapes), *SET, "--set", "train.epochs=40", "--devices", "all", "--out", str(out)]
    with ExitStack() as stack:
        both = [started(stack, words, environment(rank, 2, address)) for rank in range(2)]
        history = out / "history.jsonl"
        kill_when(both[killed], lambda: history.exists() and len(history.read_text().splitlines()) >= 2)
        said = both[1 - killed].communicate(timeout=60)[1]
    assert both[1 - killed].returncode != 0
    if killed == 1:
        assert "Process 1 on" in said
        assert "was lost" in said
        assert "tellapart train --resume" in said
    config = out / "config.toml"
    config.write_text(config.read_text().replace("epochs = 40", "epochs = 3"))
    if killed:
        done = subprocess.run([*COMMAND, "train", "--resume", str(out)], env=environment(0, 1, ""), check=False)
        assert done.returncode == 0
    else:
        for code, text in trained_in_two(["train", "--resume", str(out), "--devices", "all"]):
            assert code == 0, text
    np.testing.assert_allclose(losses(out)[:3], losses(on_one), atol=1e-4)


@needs_jax
@pytest.mark.soak
def test_the_commands_of_the_page_train_on_one_machine_and_on_two(shapes: Path, tmp_path: Path) -> None:
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    commands = [line for language, block in blocks if not language for line in block.splitlines()]
    lines = [line for line in commands if line.endswith("--devices all")]
    assert len(lines) == 3
    (tmp_path / "photos").symlink_to(shapes)
    address, more = free_address(), " ".join(map(shlex.quote, SET))
    with ExitStack() as stack:
        processes = []
        for line in lines:
            variables, _, words = line.rpartition("tellapart ")
            named = dict(word.split("=") for word in variables.replace("gpu1:4000", address).split())
            env = environment(0, 1, "", devices=2) | named
            processes.append(started(stack, shlex.split(f"{words} {more}"), env, cwd=tmp_path))
        for process in processes:
            said = process.communicate(timeout=240)[1]
            assert process.returncode == 0, said
    one, two = (ta.open_run(run) for run in sorted((tmp_path / "runs").iterdir()))
    assert {one.record.decided[-1][:20], two.record.decided[-1][:20]} == {
        "trained on 2 devices",
        "trained on 4 devices",
    }
    np.testing.assert_allclose(losses(one.path), losses(two.path), atol=1e-4)
