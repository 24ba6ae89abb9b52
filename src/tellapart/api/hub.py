"""A run on the Hugging Face hub: `push` its network and model card, `pull` them again. Needs the extra `hf`.

Only what is named here leaves this machine: no image, no file name, no path.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tellapart.api.runs import Run, open_run
from tellapart.errors import RunError, require_extra
from tellapart.files import drafting
from tellapart.inference.predictor import Predictor
from tellapart.report.model_card import write_model_card
from tellapart.runs.lock import one_writer

SCHEME = "hf://"
PUSHED = ("README.md", "model.onnx")
_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_LARGEST = 2_000_000_000


@dataclass(frozen=True)
class Pushed:
    """address: of the repository's page. files: (name, bytes) of what was sent, or would be."""

    address: str
    files: tuple[tuple[str, int], ...]


def push(
    run: str | os.PathLike[str], to: str, *, private: bool = False, dry_run: bool = False, exports: Sequence[str] = ()
) -> Pushed:
    """Send a finished run's README.md and model.onnx to `hf://USER/NAME`, which is created if it does not exist.

    private: create it so that only its owner sees it. dry_run: send nothing, and tell what would be. exports: names of
    files in RUN/exports to send too. The token is that of `hf auth login`, or of HF_TOKEN. Raises RunError for a run
    without these files or if the hub refuses; MissingExtraError without the extra `hf`.

    >>> ta.push("runs/pets", "hf://me/pets", dry_run=True).files[0][0]
    'README.md'
    """
    name = _repository(to)
    folder = open_run(run)
    files = _files(folder, exports)
    sizes = tuple((path_in, path.stat().st_size) for path_in, path in files.items())
    if dry_run:
        return Pushed(f"https://huggingface.co/{name}", sizes)
    require_extra("push", "hf", "huggingface_hub")
    from huggingface_hub import CommitOperationAdd, HfApi

    operations = [CommitOperationAdd(path_in, str(path)) for path_in, path in files.items()]
    api = HfApi(library_name="tellapart")
    made = _asked(name, lambda: _commit(api, name, operations, private))
    return Pushed(str(made), sizes)


def pull(source: str, *, out: str | os.PathLike[str] | None = None, revision: str | None = None) -> Predictor:
    """Fetch the network at `hf://USER/NAME` into a folder (default: NAME) and open it: README.md and model.onnx.

    revision: a branch, tag or commit. Nothing that the repository holds is run, and no other file is fetched. Raises
    RunError if the folder has content, or there is no network of tellapart; MissingExtraError.

    >>> predictor = ta.pull("hf://someone/pets")  # doctest: +SKIP
    """
    name = _repository(source)
    place = Path(out if out is not None else name.rpartition("/")[2])
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise RunError(f"{place} exists and is not empty. Give another --out.")
    require_extra("pull", "hf", "huggingface_hub")
    from huggingface_hub import HfApi

    api = HfApi(library_name="tellapart")
    found = _asked(name, lambda: api.model_info(name, revision=revision, files_metadata=True))
    sizes = {item.rfilename: item.size or 0 for item in found.siblings or ()}
    if "model.onnx" not in sizes or sizes["model.onnx"] > _LARGEST:
        raise RunError(
            f"{SCHEME}{name} has no model.onnx of tellapart: it holds {', '.join(sorted(sizes)[:5]) or 'nothing'}."
        )
    with drafting(place.parent, place.name) as draft:
        for file in PUSHED:
            if file in sizes:
                _asked(name, lambda file=file: api.hf_hub_download(name, file, revision=found.sha, local_dir=draft))
        Predictor(draft / "model.onnx")  # it is one of tellapart, or refused
        place.mkdir(parents=True, exist_ok=True)
        for file in PUSHED:
            if (draft / file).is_file():
                shutil.move(draft / file, place / file)
    return Predictor(place / "model.onnx")


def _repository(address: str) -> str:
    name = address.removeprefix(SCHEME).strip("/")
    if not address.startswith(SCHEME) or not _NAME.fullmatch(name):
        raise RunError(f"A repository is named hf://USER/NAME; given {address}.")
    return name


def _files(run: Run, exports: Sequence[str]) -> dict[str, Path]:
    """Name in the repository -> file. The card is written if there is none."""
    onnx = run.require(run.onnx_file, "exported network")
    if not run.card_file.exists():
        with one_writer(run, beside_others=True):
            write_model_card(run)
    files = {"README.md": run.card_file, "model.onnx": onnx}
    for name in exports:
        files[f"exports/{name}"] = run.require(run.place("exports", name), "export")
    return files


def _commit(api: Any, name: str, operations: Sequence[Any], private: bool) -> str:
    api.create_repo(name, private=private, exist_ok=True)
    done = api.create_commit(name, operations, commit_message="Push a run of tellapart")
    return str(done.repo_url)


def _asked(name: str, call: Any) -> Any:
    """What the hub answers. Raises RunError with its words."""
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return call()
    except HfHubHTTPError as error:
        said = " ".join(str(error).split())[:300]
        raise RunError(f"The hub refuses {SCHEME}{name}: {said}. Log in with: hf auth login") from None
    except OSError as error:
        raise RunError(f"The hub cannot be reached for {SCHEME}{name}: {error}.") from None
