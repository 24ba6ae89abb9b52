"""Predictions + the files that they are of -> folders by label or verdict, and XMP sidecars with keywords.

Nothing is moved, changed or overwritten: images are hard-linked or copied, or a plan alone is written.
"""

from __future__ import annotations

import csv
import filecmp
import os
import re
import shutil
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Literal, get_args
from xml.sax.saxutils import escape

from tellapart.errors import ConfigError, unknown
from tellapart.files import as_cell, cache_root, printable, replacing
from tellapart.inference.inputs import Held
from tellapart.inference.prediction import Prediction

By = Literal["label", "verdict"]
How = Literal["link", "copy", "plan"]

LIST = "sorted.csv"
"""In the folder: what was put where."""
_UNSAFE = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f]')
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?")
_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_LONGEST = 100
_SIDECAR = """\
<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/"
    xmlns:lr="http://ns.adobe.com/lightroom/1.0/">
   <dc:subject><rdf:Bag>{plain}</rdf:Bag></dc:subject>
   <lr:hierarchicalSubject><rdf:Bag>{nested}</rdf:Bag></lr:hierarchicalSubject>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="w"?>
"""


@dataclass
class Sorting:
    """Where images go, as their predictions come. folder: the target; by: label or verdict; how: link, copy, or plan,
    which writes the list alone. keywords: also a sidecar beside each image.

    Raises ConfigError where the folder lies among the images, as a second run would sort its own results.
    """

    folder: Path
    by: By
    how: How
    classes: Sequence[str]
    keywords: bool = False
    placed: int = 0
    left: list[str] = field(default_factory=list)
    _rows: list[list[str]] = field(default_factory=list)
    _taken: set[Path] = field(default_factory=set)

    def __post_init__(self) -> None:
        for value, known in ((self.by, By), (self.how, How)):
            if value not in get_args(known):
                raise ConfigError(unknown("way to sort", value, get_args(known)))
        names = self.classes if self.by == "label" else ("sure", "unsure", "unlike", "no verdict")
        self._folders = dict(zip(names, folder_names(names), strict=True))

    def refuse_among(self, images: Iterable[str]) -> None:
        """Raise ConfigError where the folder lies in one of these."""
        target = self.folder.resolve()
        for name in images:
            if Path(name).is_dir() and target.is_relative_to(Path(name).resolve()):
                raise ConfigError(f"{self.folder} lies in {name}, and would be sorted again. Name a folder outside.")

    def watched(self, images: Iterable[tuple[str, Held]]) -> Iterator[tuple[str, Held]]:
        """The same images, remembered until their predictions come, in the same order."""
        self._coming: deque[Held] = deque()
        for name, held in images:
            self._coming.append(held)
            yield name, held

    def sorted(self, predictions: Iterable[Prediction]) -> Iterator[Prediction]:
        """The same predictions, with each image put in its place. Writes the list at the end, also if cut short."""
        try:
            for said in predictions:
                self._place(self._coming.popleft(), said)
                yield said
        finally:
            self._write_list()

    def _place(self, held: Held, said: Prediction) -> None:
        if said.error or not isinstance(held, str | Path | bytes):
            why = said.error or "it is not a file of this machine"
            self.left.append(said.path)
            self._rows.append([said.path, "", said.label, said.verdict, "", f"left where it is: {why}"])
            return
        name = said.label if self.by == "label" else said.verdict or "no verdict"
        folder = self.folder / self._folders[name]
        wanted = _safe(Path(said.path).name)
        target = next(place for place in _numbered(folder / wanted) if self._is_free(place, held))
        self._taken.add(target)
        if self.how != "plan" and not target.exists():
            _put(held, target, link=self.how == "link")
        if self.keywords and self.how != "plan":
            write_sidecar(target, said)
        self.placed += 1
        inside = target.relative_to(self.folder).as_posix()
        self._rows.append([said.path, inside, said.label, said.verdict, f"{said.probability:.6f}", ""])

    def _is_free(self, place: Path, held: Held) -> bool:
        """Whether the image can stand there: nothing does, or the same image, from an earlier run."""
        if place in self._taken:
            return False
        if not os.path.lexists(place):
            return True
        if place.is_symlink() or not place.is_file():
            return False
        return place.read_bytes() == held if isinstance(held, bytes) else filecmp.cmp(str(held), place, shallow=False)

    def _write_list(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        head = ["image", "sorted as", "label", "verdict", "probability", "remark"]
        with (
            replacing(self.folder / LIST) as draft,
            # With the mark by which spreadsheets recognise UTF-8.
            draft.open("w", encoding="utf-8-sig", errors="backslashreplace", newline="") as file,
        ):
            csv.writer(file).writerows([as_cell(printable(cell)) for cell in row] for row in [head, *self._rows])


def folder_names(names: Sequence[str]) -> list[str]:
    """A folder name for each, which every system accepts and which leads nowhere else; different ones differ, also
    where upper and lower case are the same.

    >>> folder_names(["cat", "../dog", "Cat", "con", ""])
    ['cat', '_dog', 'Cat (2)', 'con_', '_']
    """
    found: list[str] = []
    taken: set[str] = set()
    for name in names:
        place = next(place for place in _numbered(Path(_safe(name))) if place.name.lower() not in taken)
        taken.add(place.name.lower())
        found.append(place.name)
    return found


def _safe(name: str) -> str:
    """A name of one file or folder."""
    cleaned = _UNSAFE.sub("_", name).strip(" ").lstrip(".").rstrip(".")
    stem, suffix = os.path.splitext(cleaned)  # noqa: PTH122 - a name alone
    cleaned = f"{stem[:_LONGEST]}{suffix[:20]}"
    return f"{cleaned}_" if _RESERVED.fullmatch(cleaned) or not cleaned else cleaned


def _numbered(place: Path) -> Iterator[Path]:
    """The place, then `name (2)`, `name (3)` ..."""
    yield place
    for number in count(2):
        yield place.with_name(f"{place.stem} ({number}){place.suffix}")


def _put(held: str | Path | bytes, target: Path, *, link: bool) -> None:
    """Link or copy; never through something that appeared there meanwhile."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(held, bytes):
        with target.open("xb") as file:
            file.write(held)
        return
    source = Path(held).resolve()
    if link and not source.is_relative_to(cache_root().resolve()):  # what an archive was unpacked to stays ours
        try:
            os.link(source, target)
            return
        except FileExistsError:
            raise
        except OSError:  # another disk, or a file system without links
            pass
    with source.open("rb") as read, target.open("xb") as file:
        shutil.copyfileobj(read, file)
    shutil.copystat(source, target)


def write_sidecar(image: Path, said: Prediction) -> bool:
    """Write IMAGE.xmp with the label (all of several) and the verdict as keywords, as digiKam, darktable and ExifTool
    read it. An existing sidecar is kept. Whether it was written. An image unlike the training images gets no label."""
    keywords = [] if said.verdict == "unlike" else [said.label] if said.labels is None else list(said.labels)
    nested = [f"tellapart|{word}" for word in (*keywords, said.verdict) if word]
    plain, below = (
        "".join(f"<rdf:li>{escape(_NOT_IN_XML.sub('_', word))}</rdf:li>" for word in words)
        for words in (keywords, nested)
    )
    try:
        with image.with_name(f"{image.name}.xmp").open("x", encoding="utf-8", newline="") as file:
            file.write(_SIDECAR.format(plain=plain, nested=below))
    except FileExistsError:
        return False
    return True
