"""Every command of every page is one that the command line takes; and, in `make soak`, is run as it stands."""

from __future__ import annotations

import os
import re
import select
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from PIL import Image, ImageEnhance

import tellapart as ta
from tellapart.cli.commands import COMMANDS
from tellapart.cli.main import app
from tests.command import COMMAND, PATIENCE
from tests.test_docs import PAGES

BUILTIN = Path(ta.__file__).parent / "data" / "builtin" / "pets"
BREEDS = ("Bengal", "american_bulldog")
SERVERS = {"serve": "Serving", "studio": "Studio"}
"""Commands that go on until they are stopped, and what they say once they answer."""

ELSEWHERE = {
    "cluster.md": "tests/cluster/test_docs.py",
    "feedback.md": "tests/studio/test_feedback.py",
    "own-network.md": "tests/training/test_own_network.py",
    "plugins.md": "tests/test_plugins.py",
    "several-devices.md": "tests/training/test_several_devices.py",
}
"""Pages whose commands need more than files, and the tests of these commands."""

NEEDS = re.compile(
    r"hf://|s3://|tfds:|kaggle:|https://|fashion-mnist|--track mlflow"  # a service on another machine
    r"|predict pets/|~/tensorflow_datasets"  # what one of those brought
    r"|--cluster|--device cuda"  # other machines, or another device; tests/cluster, tests/inference
    r"|--to coreml|inception_v3"  # a package or file that is not everywhere
    r"|cats-dogs --recipe"  # a set of images that is not in the package
)
SHORTER = {"10m": "20s", "20m": "30s", "40m": "40s", "9m": "20s", "1h": "20s", "2h": "20s"}


def commands_of(page: Path) -> list[list[str]]:
    """Of its blocks, as a shell splits them, each without `tellapart`, comments and variables."""
    blocks = re.findall(r"^```\w*\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    told = [line.partition("&& ")[2] or line for line in lines]
    found = [re.match(r"(?:[A-Z_]+=\S+ )*tellapart (.*)", line) for line in told]
    return [shlex.split(match[1], comments=True) for match in found if match]


TOLD = {page.name: commands for page in PAGES if (commands := commands_of(page))}
SINGLE = [pytest.param(name, words, id=f"{name}: {' '.join(words)}") for name, every in TOLD.items() for words in every]


def test_pages_have_commands() -> None:
    assert len(SINGLE) > 100
    assert {"README.md", "tutorial.md", "export.md"} <= TOLD.keys()
    assert ELSEWHERE.keys() <= TOLD.keys()


@pytest.mark.parametrize(("name", "words"), SINGLE)
def test_a_command_of_a_page_is_one_that_the_command_line_takes(name: str, words: list[str]) -> None:
    group = typer.main.get_command(app)
    if words[0].startswith("-"):
        assert words[0] in {option for parameter in group.params for option in parameter.opts}
    elif words[0] in COMMANDS:
        command = group.commands[words[0]]  # type: ignore[attr-defined]
        command.make_context(words[0], list(words[1:]))  # raises for an option or value that there is not
    else:
        assert name == "plugins.md", f"there is no command {words[0]}"


def cut(folder: Path, first: int = 0, count: int = 60) -> Path:
    """So many photographs of each breed, in a folder of its own."""
    for breed in BREEDS:
        (folder / breed).mkdir(parents=True)
        for path in sorted((BUILTIN / breed).glob("*.jpg"))[first : first + count]:
            shutil.copy(path, folder / breed / path.name)
    return folder


def flat(folder: Path, *, labels: Path | None = None, header: str = "", both: bool = False) -> None:
    """The same in one folder, with a table beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [header]
    for breed in BREEDS:
        for path in sorted((BUILTIN / breed).glob("*.jpg"))[:30]:
            shutil.copy(path, folder / path.name)
            rows.append(f"{path.name},{breed}|pet" if both else f"{path.name},{breed}")
    if labels is not None:
        labels.write_text("\n".join(rows) + "\n", encoding="utf-8")


def frames(folder: Path) -> None:
    """Six frames of each of six patients a class, seconds apart, patients an hour apart."""
    patients = [(breed, path) for breed in BREEDS for path in sorted((BUILTIN / breed).glob("*.jpg"))[:6]]
    for number, (breed, path) in enumerate(patients):
        (folder / breed).mkdir(parents=True, exist_ok=True)
        with Image.open(path) as image:
            for frame in range(6):
                made = ImageEnhance.Brightness(image).enhance(1 + frame / 40)
                exif = made.getexif()
                exif[0x0110] = "camera"
                exif.get_ifd(0x8769)[0x9003] = f"2026:01:01 {number:02d}:00:{2 * frame:02d}"
                made.save(folder / breed / f"patient{number}_{frame:02d}.jpg", exif=exif)


def of_several_labels(work: Path) -> None:
    flat(work, labels=work / "labels.csv", header="image,labels", both=True)
    cut(work / "photos", first=30, count=4)


def of_hugging_face(work: Path) -> None:
    datasets = pytest.importorskip("datasets")
    read = datasets.load_dataset("imagefolder", data_dir=str(work / "photos"), cache_dir=str(work / "hub"))["train"]
    embed = datasets.table.embed_table_storage
    made = read.with_format("arrow").map(embed, batched=True).with_format(None)
    (work / "my-data-set" / "data").mkdir(parents=True)
    (work / "data").mkdir()
    for number in range(4):
        made.shard(4, number).to_parquet(work / "my-data-set" / "data" / f"train-{number:05d}-of-00004.parquet")
    made.select(range(4)).to_parquet(work / "data" / "test-00000-of-00001.parquet")
    (work / "photos").rename(work / "my-images")


def of_webdataset(work: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    (work / "shards").mkdir()
    rows = [(path, breed.name) for breed in sorted((work / "photos").iterdir()) for path in sorted(breed.iterdir())]
    for number in range(147):
        with webdataset.TarWriter(str(work / "shards" / f"train-{number:06d}.tar")) as shard:
            for path, label in rows[number::147]:
                shard.write({"__key__": path.stem, "jpg": path.read_bytes(), "cls": label})
    shutil.copy(work / "shards" / "train-000000.tar", work / "shards" / "test-000000.tar")


def of_browsers(work: Path) -> None:
    if shutil.which("npm") is None:
        pytest.skip("npm is not here")
    subprocess.run(["npm", "install", "--silent", "onnxruntime-web@1.30.0"], cwd=work, check=True)


def of_groups(work: Path) -> None:
    shutil.rmtree(work / "photos")
    frames(work / "photos")


def of_labels(work: Path) -> None:
    rows = [
        f"{path.relative_to(work / 'photos')},relabel,{path.parent.name}"
        for path in sorted((work / "photos").rglob("*.jpg"))
    ]
    (work / "photos.labels.csv").write_text("\n".join(["path,action,label", *rows]) + "\n", encoding="utf-8")


def of_csv(work: Path) -> None:
    shutil.rmtree(work / "photos")
    flat(work / "photos", labels=work / "labels.csv", header="file,species")


def of_prediction(work: Path) -> None:
    (work / "list.csv").write_text("image\nBengal/" + next((work / "photos" / "Bengal").iterdir()).name + "\n")


def of_repeating(work: Path) -> None:
    words = ["train", "photos", "--model", "cnn", "--image-size", "32", "--epochs", "12", "--set", "train.patience=0"]
    run = work / "runs" / "photos-cnn-1"
    with subprocess.Popen([*COMMAND, *words, "--out", str(run)], cwd=work, stderr=subprocess.DEVNULL) as training:
        while training.poll() is None and not (run / "history.jsonl").exists():
            time.sleep(0.05)
        training.kill()


def of_serving(work: Path) -> None:
    (work / "token").write_text("0123456789abcdef0123456789abcdef", encoding="utf-8")
    (work / "token").chmod(0o600)
    for name in "ab":
        (work / "runs" / name).symlink_to(work / "runs" / "pets")


PREPARED: dict[str, Callable[[Path], None]] = {
    "several-labels.md": of_several_labels,
    "hugging-face.md": of_hugging_face,
    "webdataset.md": of_webdataset,
    "browsers-and-phones.md": of_browsers,
    "groups.md": of_groups,
    "label.md": of_labels,
    "tutorial-label.md": of_labels,
    "csv.md": of_csv,
    "predict.md": of_prediction,
    "repeat.md": of_repeating,
    "serve.md": of_serving,
}
"""What a page is about, beyond photos/, new/ and a run."""

CLEARED = {"several-labels.md"}
"""Pages that bring their own images."""
BEGINNING = {"tutorial.md"}
"""Pages that train the first run themselves."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pages")
    return Path(ta.train(cut(folder / "photos"), out=folder / "run").path)


@pytest.mark.soak
@pytest.mark.parametrize("name", [name for name in TOLD if name not in ELSEWHERE])
def test_the_commands_of_a_page_run(name: str, run: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    (work / "runs").mkdir(parents=True)
    for own in ("pets", "augmented") if name not in BEGINNING else ():
        shutil.copytree(run, work / "runs" / own)
    (work / "RUN").symlink_to(work / "runs" / "pets")
    (work / "OTHER").symlink_to(work / "runs" / "augmented")
    if name not in CLEARED:
        for folder in ("photos", "unlabelled", "new-photos"):
            cut(work / folder, first=0 if folder == "photos" else 60, count=60 if folder == "photos" else 20)
        (work / "DATA").symlink_to(work / "photos")
        flat(work / "unsorted")
        flat(work / "new")
        shutil.copy(next((work / "new").iterdir()), work / "new" / "cat.jpg")
    PREPARED.get(name, lambda _: None)(work)
    for words in TOLD[name]:
        if not NEEDS.search(" ".join(words)):
            done = told([SHORTER.get(word, word) for word in words], work)
            assert done == "", f"tellapart {' '.join(words)}: {done}"


def told(words: list[str], work: Path) -> str:
    """Runs a command in a folder; what went wrong, empty if nothing did."""
    environment = {**os.environ, "COLUMNS": "200", "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    options: dict[str, object] = {"cwd": work, "env": environment, "text": True, "stdin": subprocess.DEVNULL}
    if words[0] in SERVERS:
        more = ["--port", "0", *(["--no-browser"] if words[0] == "studio" else [])]
        with subprocess.Popen([*COMMAND, *words, *more], stderr=subprocess.PIPE, **options) as server:  # type: ignore[call-overload]
            try:
                return _answering(server, SERVERS[words[0]])
            finally:
                server.kill()
    done = subprocess.run([*COMMAND, *words], capture_output=True, check=False, timeout=PATIENCE, **options)  # type: ignore[call-overload]
    # 1: done, and something is for a person to decide.
    return "" if done.returncode in (0, 1) else f"exit code {done.returncode}: {done.stderr[-1500:]}"


def _answering(server: subprocess.Popen[str], said: str) -> str:
    assert server.stderr is not None
    lines, deadline = "", time.monotonic() + PATIENCE
    while time.monotonic() < deadline and server.poll() is None:
        if select.select([server.stderr], [], [], 0.5)[0]:
            lines += server.stderr.readline()
            if re.search(rf"^{said} .*http://", lines, re.MULTILINE):
                return ""
    return f"it did not answer: {lines}{server.stderr.read() if server.poll() is not None else ''}"
