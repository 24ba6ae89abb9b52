"""The name of a public data set, a URL, or one of another site -> a local folder or file that `tellapart train` reads.

Downloads are stored in the cache, or at `out`, complete or not at all; what already exists is not downloaded again.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
import sys
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from tellapart.data.address import is_address
from tellapart.data.public_datasets import COLLECTIONS, Collection
from tellapart.data.sources.archive import unpack
from tellapart.data.sources.folders import split_named
from tellapart.data.sources.hugging_face import SCHEME, snapshot
from tellapart.data.sources.listing import ARCHIVE_SUFFIXES, kind_of
from tellapart.data.sources.remote import is_remote, local_copy
from tellapart.download import download, file_checksum
from tellapart.errors import FetchError, MissingExtraError, require_extra, unknown
from tellapart.files import cache_root
from tellapart.progress import SILENT, Progress

KAGGLE = "kaggle:"
TFDS = "tfds:"
_LOGIN = "Kaggle needs a login: set KAGGLE_API_TOKEN, or put the kaggle.json from your account page into ~/.kaggle/."


def fetch(name: str, *, sha256: str | None = None, out: Path | None = None, progress: Progress = SILENT) -> Path:
    """Download a collection, a URL, or a data set of Kaggle, Hugging Face or TensorFlow Datasets once; the returned
    path is what `read` and `train` take.

    sha256: of the file at a URL. out: the file or folder to write; default: the cache. Raises FetchError, which tells
    what to do without a network.
    """
    if sha256 is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise FetchError(f"{sha256!r} is not a SHA-256; expected 64 hexadecimal digits.")
    if name.startswith(SCHEME):
        _require_own_cache("A data set of Hugging Face", "HF_HOME", out)
        return snapshot(name)
    if is_remote(name) and not is_address(name):
        _require_own_cache("What is at such an address", "TELLAPART_CACHE", out)
        return local_copy(name, progress=progress)
    if "://" in name:
        return _address(name, sha256 or "", out, progress)
    if sha256:
        raise FetchError(
            f"--sha256 applies to the file at a URL; {name} is not a URL. The checksums of collections are in the "
            "table."
        )
    if name.startswith(KAGGLE):
        return _kaggle(name.removeprefix(KAGGLE), out)
    if name.startswith(TFDS):
        return _tensorflow(name.removeprefix(TFDS), out)
    if name not in COLLECTIONS:
        raise FetchError(
            unknown("collection", name, COLLECTIONS)
            + " Or give a URL, hf://USER/NAME, kaggle:OWNER/DATASET or tfds:NAME."
        )
    row = COLLECTIONS[name]
    return _kaggle(row.kaggle, out) if row.kaggle else _collection(row, out, progress)


def _address(url: str, sha256: str, out: Path | None, progress: Progress) -> Path:
    file = PurePosixPath(unquote(urlsplit(url).path)).name
    if out is None and (not file or file.startswith(".")):
        raise FetchError(f"{url} does not give a file name. Set one with --out, such as --out photos.zip.")
    if out is not None and out.is_dir():
        out = out / (file or "fetched")
    # Two URLs may end in the same name.
    path = out or _fetched() / hashlib.blake2b(url.encode(), digest_size=8).hexdigest() / file
    if path.exists():
        if sha256 and file_checksum(path) == sha256.lower():
            return path
        if sha256 or out:
            raise FetchError(f"{path} exists already and may be another file. Remove it or give another --out.")
        return path
    try:
        download(url, path, checksum=sha256, progress=progress)
    except FetchError as error:
        raise FetchError(
            f"{error} Without network access, download it elsewhere, copy it here and name the file."
        ) from None
    return path


def _collection(row: Collection, out: Path | None, progress: Progress) -> Path:
    """All files of a row, in a folder; a single archive stays as it is, as archives can be read directly."""
    target = out or _fetched() / row.name
    alone = row.parts[0].file if len(row.parts) == 1 else ""
    if target.exists():
        if out is None:
            return target / alone
        raise FetchError(f"{target} exists already. Name it to use it, remove it, or give another --out.")
    staging = target.with_name(f".{target.name}.part")
    for part in row.parts:
        path = staging / part.file
        if (staging / part.split).exists() if part.split else path.exists():
            continue  # already downloaded by an interrupted call
        try:
            download(part.url, path, checksum=part.sha256, size=part.size, progress=progress)
        except FetchError as error:
            raise FetchError(_elsewhere(row, target, str(error))) from None
        if part.split:
            unpacked = staging / f"{part.split}.unpacked"
            shutil.rmtree(unpacked, ignore_errors=True)
            unpack(path, unpacked)
            (unpacked / part.inside).rename(staging / part.split)
            shutil.rmtree(unpacked, ignore_errors=True)
            path.unlink()
    staging.rename(target)
    return target / alone


def _elsewhere(row: Collection, target: Path, reason: str) -> str:
    files = "\n".join(f"  {part.url}" + (f"  (unpacked to {part.split}/)" if part.split else "") for part in row.parts)
    what = "these files elsewhere and put them" if len(row.parts) > 1 else "this file elsewhere and put it"
    return f"{reason}\nWithout network access, download {what} into {target}:\n{files}"


def _kaggle(name: str, out: Path | None) -> Path:
    """A competition, or OWNER/DATASET, by kagglehub, which handles login and resuming, and uses its own cache."""
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name):
        raise FetchError(f"kaggle:{name} is incomplete; expected kaggle:OWNER/DATASET or kaggle:COMPETITION.")
    _require_own_cache("A data set of Kaggle", "KAGGLEHUB_CACHE", out)
    try:
        import kagglehub
    except ModuleNotFoundError as error:
        if error.name != "kagglehub":
            raise
        raise MissingExtraError("Fetching from Kaggle", "fetch") from None
    get = kagglehub.dataset_download if "/" in name else kagglehub.competition_download
    try:
        # Standard output is reserved for results.
        with contextlib.redirect_stdout(sys.stderr):
            return training_part(Path(get(name)))
    except Exception as error:  # noqa: BLE001 - it raises what its many parts raise
        reason = str(error).strip() or type(error).__name__
        page = f"https://www.kaggle.com/{'datasets' if '/' in name else 'competitions'}/{name}"
        raise FetchError(
            f"kaggle:{name} could not be downloaded: {reason}\n{_LOGIN} Some require accepting their rules first, at "
            f"{page}. Without network access, download the zip there with a browser, copy it here and name the file."
        ) from None


def _require_own_cache(client: str, variable: str, out: Path | None) -> None:
    if out is not None:
        raise FetchError(f"{client} is kept in a cache of its own; set {variable}, not --out.")


def _tensorflow(name: str, out: Path | None) -> Path:
    """A data set of TensorFlow Datasets by its library, which downloads and prepares it once, as TFRecord files."""
    _require_own_cache("A data set of TensorFlow Datasets", "TFDS_DATA_DIR", out)
    require_extra("Fetching from TensorFlow Datasets", "tfds", "tensorflow_datasets", "google_crc32c")
    try:
        # Standard output is reserved for results.
        with contextlib.redirect_stdout(sys.stderr):
            import tensorflow_datasets

            builder = tensorflow_datasets.builder(name, file_format="tfrecord")
            builder.download_and_prepare()
            return Path(builder.data_dir)
    except Exception as error:  # noqa: BLE001 - it raises what its many parts raise
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise FetchError(
            f"tfds:{name} could not be prepared: {reason}\nThe names are at https://www.tensorflow.org/datasets. "
            "Without network access, prepare it elsewhere, copy its folder in ~/tensorflow_datasets, and name that."
        ) from None


def training_part(folder: Path) -> Path:
    """The archive of training images, if a folder holds only archives, as in Kaggle's competitions."""
    files = [path for path in folder.iterdir() if not path.name.startswith(".")]
    if any(path.is_dir() or kind_of(path.name) == "image" for path in files):
        return folder
    archives = [path for path in files if kind_of(path.name) == "archive"]
    if len(archives) == 1:
        return archives[0]
    train = [path for path in archives if split_named(_stem(path.name)) == "train"]
    return train[0] if len(train) == 1 else folder


def _stem(name: str) -> str:
    return next((name[: -len(suffix)] for suffix in ARCHIVE_SUFFIXES if name.lower().endswith(suffix)), name)


def _fetched() -> Path:
    return cache_root() / "fetched"
