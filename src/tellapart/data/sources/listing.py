"""A folder -> Listing: every image, table, idx file and archive below it, by name alone. Opens no file.

Hidden names (a leading dot, which includes `._x` and `.DS_Store`), __MACOSX, @eaDir and the like are skipped.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

from tellapart.data.findings import Finding, Severity
from tellapart.data.image_formats import SUFFIXES
from tellapart.errors import SourceError, some

Kind = Literal["image", "table", "list", "records", "idx", "archive", "names", ""]

UNREAD_SUFFIXES = {
    **dict.fromkeys(
        (
            "cr2", "cr3", "crw", "nef", "nrw", "arw", "sr2", "srf", "dng", "orf", "rw2", "raf", "pef", "srw", "x3f",
            "3fr", "iiq", "psd", "xcf", "jxl", "svg", "exr", "dcm", "dds", "dib", "cur", "icns", "pcx", "sgi", "ras",
            "qoi", "xbm", "xpm", "eps", "fits", "hdr", "nii", "czi", "lsm", "svs", "ndpi",
        ),
        "image",
    ),
    **dict.fromkeys(("mp4", "mov", "avi", "mkv", "webm", "m4v", "mpg", "mpeg", "wmv", "3gp"), "video"),
}  # fmt: skip
"""Unsupported formats of images and videos: camera raw, drawings, scans."""
_NUMBER = re.compile(r"\d+")
_EXPORT = "Export them as JPEG or PNG next to the originals."
TABLE_SUFFIXES = frozenset(("csv", "tsv", "parquet", "jsonl", "ndjson", "xlsx", "xlsm"))
NAMES_FILES = frozenset(
    ("labels.txt", "classes.txt", "classnames.txt", "class_names.txt", "names.txt", "label_map.txt")
)
"""Lower-case names of files that hold the names of classes, one a line."""
_LIST_NAME = re.compile(
    r"(.*[\W_])?(train|training|val|valid|validation|test|testing|trainval|list|filelist|images)([\W_].*)?\.txt",
    re.DOTALL,
)
ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
RECORDS_NAME = re.compile(r".+(\.tfrecords?([-_.]\d{5}-of-\d{5})?|[-_.]\d{5}-of-\d{5})", re.DOTALL)
IDX_NAME = re.compile(r"(?P<part>.+)-(?P<what>images|labels)[-.]idx[13]-ubyte(\.gz)?", re.IGNORECASE)
IGNORED = frozenset(("__macosx", "@eadir", "thumbs.db", "desktop.ini", "$recycle.bin", "system volume information"))


def kind_of(name: str) -> Kind:
    """The kind of a file by its name, in any case; "list" is one of images by split, "names" one of class names,
    "records" a TFRecord file, "" anything else.

    >>> kind_of("Cat.JPG"), kind_of("train.tar.gz"), kind_of("train_list.txt"), kind_of("notes.txt")
    ('image', 'archive', 'list', '')
    """
    lower = name.lower()
    suffix = lower.rpartition(".")[2] if "." in lower else ""
    if suffix in SUFFIXES:
        return "image"
    if suffix in TABLE_SUFFIXES:
        return "table"
    if lower.endswith(ARCHIVE_SUFFIXES):
        return "archive"
    if lower in NAMES_FILES:
        return "names"
    if RECORDS_NAME.fullmatch(lower):
        return "records"
    if suffix == "txt" and _LIST_NAME.fullmatch(lower):
        return "list"
    return "idx" if IDX_NAME.fullmatch(name) else ""


def unread(name: str) -> str:
    """`image` or `video` for an unsupported format, else empty.

    >>> unread("DSC_1.NEF"), unread("clip.mp4"), unread("cat.jpg")
    ('image', 'video', '')
    """
    return UNREAD_SUFFIXES.get(name.lower().rpartition(".")[2], "")


def ignored(name: str) -> bool:
    """Whether a file or folder of this name is created by a system and never meant as data."""
    return name.startswith((".", "~$")) or name.lower() in IGNORED  # ~$: the lock of an open Excel table


def natural_key(path: str) -> tuple[str, str]:
    """Sorts as people do: `cat.2.jpg` before `cat.10.jpg`; ties such as `a1` and `a01` are ordered by the path
    itself.

    >>> sorted(["cat.10.jpg", "cat.2.jpg", "cat", "cats.1.jpg"], key=natural_key)
    ['cat', 'cat.2.jpg', 'cat.10.jpg', 'cats.1.jpg']
    """
    # As text, which is compared faster than a list, and is nothing for the garbage collector to visit.
    return _NUMBER.sub(_by_size, path), path


def _by_size(number: re.Match[str]) -> str:
    """Before any other text, and a number of fewer digits before one of more."""
    digits = number[0] if number[0].isascii() else "".join(str(unicodedata.digit(each)) for each in number[0])
    digits = digits.lstrip("0")
    return f"\0{chr(len(digits))}{digits}"


def label_text(name: str) -> str:
    r"""A class name as text: normalised (NFC), undecodable bytes escaped, so that it can be stored anywhere.

    >>> label_text("caf\udce9")
    'caf\\xe9'
    """
    readable = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return unicodedata.normalize("NFC", readable)


def counted(number: int, word: str) -> str:
    """
    >>> counted(1, "image"), counted(2, "class")
    ('1 image', '2 classes')
    """
    return f"{number} {word}" + ("" if number == 1 else "es" if word.endswith("s") else "s")


@dataclass(frozen=True)
class Listing:
    """The content of a folder. Paths are relative to root with forward slashes, as on disk, in natural order.

    name: what the user called it (an archive's name if root is an unpacked one). others: suffix -> count. known: the
    classes of an existing network; then images of one class are enough.
    """

    root: Path
    name: str
    images: tuple[str, ...]
    folders: tuple[str, ...]
    tables: tuple[str, ...]
    idx: tuple[str, ...]
    archives: tuple[str, ...]
    others: Counter[str]
    findings: tuple[Finding, ...]
    known: tuple[str, ...] = ()
    lists: tuple[str, ...] = ()
    records: tuple[str, ...] = ()

    @property
    def advice(self) -> str:
        """What to do if there is no image, or labels where they are not read; empty without advice."""
        if self.others.get(".cls"):
            return "Labels in .cls are read from tar shards that are not compressed: gunzip these, or tar the folder."
        if self.images:
            return ""
        if self.archives:
            return f"Name the archive to read it: {self.archives[0]}"
        return _EXPORT if any(found.kind == "image-not-read" for found in self.findings) else ""

    @cached_property
    def by_folder(self) -> dict[str, tuple[str, ...]]:
        """Images by the folder that directly contains them; "" is the root."""
        table: dict[str, list[str]] = {}
        for path in self.images:
            table.setdefault(path.rpartition("/")[0], []).append(path)
        return {folder: tuple(paths) for folder, paths in table.items()}

    @cached_property
    def empty_folders(self) -> tuple[str, ...]:
        """The topmost folders without an image in or below them."""
        full = {""}
        for folder in self.by_folder:
            while folder not in full:
                full.add(folder)
                folder = folder.rpartition("/")[0]
        return tuple(f for f in self.folders if f not in full and f.rpartition("/")[0] in full)

    def describe(self) -> str:
        """What was found, in counts."""
        found = [f"{counted(len(self.images), 'image')} in {counted(len(self.by_folder), 'folder')}"]
        others = (
            (self.tables, "table"), (self.lists, "list"), (self.records, "TFRecord file"), (self.idx, "idx file"),
            (self.archives, "archive"),
        )  # fmt: skip
        for paths, word in others:
            if paths:
                shown = ", ".join(paths[:3]) + (" ..." if len(paths) > 3 else "")
                found.append(f"{counted(len(paths), word)} ({shown})")
        if self.others:
            shown = ", ".join(f"{number} {suffix}" for suffix, number in self.others.most_common(3))
            found.append(f"{counted(self.others.total(), 'other file')} ({shown})")
        return ", ".join(found)


@dataclass
class _Walk:
    """The state of one walk: what was found so far, and the real folders already visited."""

    found: dict[str, list[str]] = field(
        default_factory=lambda: {kind: [] for kind in ("image", "table", "list", "records", "idx", "archive")}
    )
    folders: list[str] = field(default_factory=list)
    links: list[tuple[str, str]] = field(default_factory=list)
    seen: set[tuple[int, int]] = field(default_factory=set)
    others: Counter[str] = field(default_factory=Counter)
    seen_again: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    no_file: list[str] = field(default_factory=list)
    unread: dict[str, list[str]] = field(default_factory=lambda: {"image": [], "video": [], "": []})

    def folder(self, place: str, prefix: str) -> list[tuple[str, str]]:
        """Read one folder; returns its subfolders. A real folder is not visited twice."""
        try:
            status = os.stat(place)  # noqa: PTH116 - a Path per folder and file costs more than the walk
            if (status.st_dev, status.st_ino) in self.seen:
                self.seen_again.append(prefix[:-1])
                return []
            self.seen.add((status.st_dev, status.st_ino))
            with os.scandir(place) as entries:
                inside = [self._entry(entry, prefix) for entry in entries if not ignored(entry.name)]
        except OSError:
            self.unreadable.append(prefix[:-1])
            return []
        if prefix:
            self.folders.append(prefix[:-1])
        return [folder for folder in inside if folder]

    def _entry(self, entry: os.DirEntry[str], prefix: str) -> tuple[str, str] | None:
        if entry.is_dir(follow_symlinks=False):
            return entry.path, f"{prefix}{entry.name}/"
        if entry.is_symlink() and leads_to_folder(entry):
            self.links.append((entry.path, f"{prefix}{entry.name}/"))
            return None
        kind = kind_of(entry.name)
        if kind in self.found:
            (self.found[kind] if _is_file(entry) else self.no_file).append(prefix + entry.name)
        else:
            self.others[os.path.splitext(entry.name)[1].lower() or "without suffix"] += 1  # noqa: PTH122 - likewise
            if kind != "names":
                self.unread[unread(entry.name)].append(prefix + entry.name)
        return None

    def findings(self) -> tuple[Finding, ...]:
        images, videos, others = self._unread_alone(), self.unread["video"], self.unread[""]
        closed = ": each cannot be read"
        no_file = ": each is a broken link or not a regular file"
        again = ": each is a link to a folder that was read under another name"
        odd = " in an unsupported format: "
        frames = "Left out. To use them, save frames of them as images."
        strange = " without an image suffix: "
        named = "Skipped. If some are images, give them the suffix of their format."
        notes: tuple[tuple[list[str], str, Severity, str, str, str], ...] = (
            (self.unreadable, "unreadable-folder", "error", "name", closed, "Its contents are left out."),
            (self.no_file, "not-a-file", "error", "name", no_file, "It is left out."),
            (self.seen_again, "seen-again", "note", "name", again, "It is read once."),
            (images, "image-not-read", "warning", "image", odd + _suffixes(images), f"Left out. {_EXPORT}"),
            (videos, "video-not-read", "note", "video", odd + _suffixes(videos), frames),
            (others, "passed-over", "note", "other file", strange + _suffixes(others), named),
        )
        return tuple(
            Finding(kind, severity, _ordered(paths), f"{counted(len(paths), noun)}{meaning}.", done)
            for paths, kind, severity, noun, meaning, done in notes
            if paths
        )

    def _unread_alone(self) -> list[str]:
        """A camera writes IMG_1.JPG beside IMG_1.CR2: this is one image, and it is readable."""
        if not self.unread["image"]:
            return []
        read = {path.rpartition(".")[0] for path in self.found["image"]}
        return [path for path in self.unread["image"] if path.rpartition(".")[0] not in read]


def list_folder(root: Path, name: str = "") -> Listing:
    """Walk a folder. Links to files and folders are followed, each real folder is visited once: real ones first, then
    linked ones in order of name, so that the result does not depend on the order on disk.

    Raises SourceError if the folder itself cannot be read.
    """
    walk = _Walk()
    pending = [(os.fspath(root), "")]
    while pending or walk.links:
        if not pending:
            walk.links.sort(key=lambda link: natural_key(link[1]), reverse=True)
            pending.append(walk.links.pop())
        pending.extend(walk.folder(*pending.pop()))
    if "" in walk.unreadable:
        raise SourceError(f"{root} cannot be read as a folder. Check that you have permission to list and open it.")
    images, tables, idx, archives = (_ordered(walk.found[kind]) for kind in ("image", "table", "idx", "archive"))
    return Listing(
        root, name or str(root), images, _ordered(walk.folders), tables, idx, archives, walk.others, walk.findings(),
        lists=_ordered(walk.found["list"]), records=_ordered(walk.found["records"]),
    )  # fmt: skip


def list_files(root: Path, name: str, files: Iterable[Path]) -> Listing:
    """The Listing of these files, which are below root, and of no other."""
    found: dict[str, list[str]] = {kind: [] for kind in ("image", "table", "list", "records", "idx", "archive")}
    others: Counter[str] = Counter()
    for file in files:
        path = file.relative_to(root).as_posix()
        found.get(kind_of(file.name), []).append(path)
        others.update([] if kind_of(file.name) in found else [file.suffix.lower() or "without suffix"])
    images, tables, lists, records, idx, archives = map(_ordered, found.values())
    return Listing(root, name, images, (), tables, idx, archives, others, (), lists=lists, records=records)


def _ordered(paths: list[str]) -> tuple[str, ...]:
    return tuple(sorted(paths, key=natural_key))


def _suffixes(paths: list[str]) -> str:
    """The number of files by suffix, most frequent first."""
    counts = Counter(os.path.splitext(path)[1].lower() or "without suffix" for path in paths)  # noqa: PTH122 - speed
    return some([f"{number} {suffix}" for suffix, number in counts.most_common()], 12)


def leads_to_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:
        return False
