"""A Dataset or DatasetDict of Hugging Face, or hf://USER/NAME -> a folder that is read like any other.

A Dataset is written once to the cache as parquet with the images inside, by its fingerprint and batch by batch, so that
a run finds its images again. A data set of the hub is downloaded by huggingface_hub, which resumes and
shares its files with other programs; no code of it is run.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tellapart.errors import FetchError, SourceError, require_extra
from tellapart.files import cache_root, drafting

SCHEME = "hf://"
ROWS = 100
"""Of a row group, as `datasets` itself writes images."""
_NAME = re.compile(
    r"hf://(?:datasets/)?(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>refs/[\w.-]+/[\w.-]+|[\w.-]+))?(?P<below>/[^@]*)?"
)
_REFUSED = (
    ("IterableDataset", "streams, and a run must find its images again. Load it without streaming=True."),
    ("IterableDatasetDict", "streams, and a run must find its images again. Load it without streaming=True."),
)


def is_dataset(data: object) -> bool:
    """Whether data is a Dataset or DatasetDict, also a streaming one; does not import datasets."""
    module = sys.modules.get("datasets")
    names = ("Dataset", "DatasetDict", *(name for name, _ in _REFUSED))
    return module is not None and isinstance(data, tuple(getattr(module, name) for name in names))


def folder_of_dataset(data: Any) -> Path:
    """The folder in the cache that holds a Dataset or DatasetDict as parquet; written the first time.

    Raises SourceError for one that streams or has no images.
    """
    for kind, reason in _REFUSED:
        if type(data).__name__ == kind:
            raise SourceError(f"The {kind} {reason}")
    parts = dict(data) if isinstance(data, dict) else {str(data.split or "data"): data}
    state = "\0".join(f"{name}\0{part._fingerprint}" for name, part in parts.items())
    folder = cache_root() / "datasets" / hashlib.blake2b(state.encode(), digest_size=16).hexdigest()
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with drafting(folder.parent, folder.name) as draft:
            for name, part in parts.items():
                _write(part, draft / f"{re.sub(r'[^A-Za-z0-9_.-]', '_', name)}-00000-of-00001.parquet")
            draft.rename(folder)
    return folder


def images_of_dataset(data: Any) -> Iterator[Any]:
    """The encoded image of each row of a Dataset, in order: bytes, or the path of a file; None for none."""
    column = _image_column(data)
    import datasets

    for row in data.select_columns([column]).cast_column(column, datasets.Image(decode=False)):
        held = row[column] or {}
        yield held.get("bytes") or held.get("path")


def _image_column(data: Any) -> str:
    import datasets

    names = [name for name, feature in data.features.items() if isinstance(feature, datasets.Image)]
    if not names:
        raise SourceError(
            f"The Dataset has the columns {', '.join(data.features)}; none has the feature Image. "
            "Set it: dataset.cast_column('image', datasets.Image())."
        )
    return "image" if "image" in names else names[0]


def _write(part: Any, path: Path) -> None:
    from datasets.table import embed_table_storage
    from pyarrow import parquet

    _image_column(part)
    with parquet.ParquetWriter(path, part.features.arrow_schema) as file:
        for table in part.with_format("arrow").iter(ROWS):
            file.write_table(embed_table_storage(table.cast(part.features.arrow_schema)))


def snapshot(name: str) -> Path:
    """The local folder of hf://USER/NAME, also with @REVISION and a /FOLDER in it; downloaded once.

    Raises FetchError, which tells what to do without a network; MissingExtraError without the extra `hf`.
    """
    match = _NAME.fullmatch(name)
    if match is None or ".." in name.split("/"):
        raise FetchError(
            f"{name} is not a data set of Hugging Face; expected hf://USER/NAME, or hf://USER/NAME/FOLDER."
        )
    require_extra("Reading from Hugging Face's hub", "hf", "huggingface_hub")
    import huggingface_hub

    below = (match["below"] or "").strip("/")
    patterns = [below, f"{below}/**"] if below else None
    try:
        folder = Path(
            huggingface_hub.snapshot_download(
                match["repo"], repo_type="dataset", revision=match["revision"], allow_patterns=patterns
            )
        )
    except Exception as error:  # noqa: BLE001 - it raises what its many parts raise
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise FetchError(
            f"{name} could not be downloaded: {reason}\nFor a private or gated data set: hf auth login. Without "
            f"network access, download it elsewhere with `hf download {match['repo']} --repo-type dataset --local-dir "
            "FOLDER`, copy it here and name the folder."
        ) from None
    if not (folder / below).exists():
        raise FetchError(f"{name}: {match['repo']} holds nothing at {below!r}.")
    return folder / below
