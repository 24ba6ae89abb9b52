"""Table: rows found by name. Rows are added by a decorator, or by entry points of installed packages.

In: built-in rows, or where they are defined ("module:attribute"); entry points of the groups `tellapart.KIND`. Nothing
is imported before its name is requested, or a list of all. Names are read from the metadata of installed packages
without importlib.metadata, whose import takes longer than reading them.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from traceback import walk_tb
from types import MappingProxyType
from typing import Any, Generic, Protocol, TypeVar

from tellapart.errors import PluginError, TellapartError, unknown

GROUP = "tellapart."
"""Prefix of every group of entry points; the kind of table follows."""
NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
LONGEST = 40
"""Most characters of a name."""


class Named(Protocol):
    """A row: a value with a name."""

    @property
    def name(self) -> str: ...


Row = TypeVar("Row", bound=Named)


@dataclass(frozen=True, order=True)
class Plugin:
    """A row of the table `kind` from an installed package. place: where it is defined, "module:attribute", not
    imported. package is empty for a row that a program added itself; place is then its module."""

    kind: str
    name: str
    package: str
    version: str
    place: str

    def __str__(self) -> str:
        return f"{self.package} {self.version}".strip() or self.place


def installed(kind: str = "") -> tuple[Plugin, ...]:
    """The plug-ins of a kind, or of all, from the metadata of the packages on Python's path; none is imported."""
    found = _installed(tuple(sys.path), str(Path.cwd()))
    return tuple(plugin for plugin in found if kind in ("", plugin.kind))


@cache
def _installed(path: tuple[str, ...], here: str) -> tuple[Plugin, ...]:
    seen: set[str] = set()
    found: list[Plugin] = []
    for folder in path:
        # The current folder may be a stranger's; nothing is installed there.
        if folder in ("", here):
            continue
        with suppress(OSError), os.scandir(folder) as entries:
            for entry in sorted((entry for entry in entries if entry.name.endswith(".dist-info")), key=_by_name):
                package, _, version = entry.name.removesuffix(".dist-info").partition("-")
                if package not in seen:
                    seen.add(package)
                    found += _entry_points(entry.path, package.replace("_", "-"), version)
    return tuple(sorted(found))


def _by_name(entry: os.DirEntry[str]) -> str:
    return entry.name


def _entry_points(folder: str, package: str, version: str) -> Iterator[Plugin]:
    try:
        # As strings: creating a Path for each of some hundred packages takes longer than reading them.
        with open(f"{folder}/entry_points.txt", encoding="utf-8") as file:  # noqa: PTH123
            text = file.read()
    except (OSError, ValueError):
        return
    if f"[{GROUP}" not in text:
        return
    import configparser  # imported late: every command without plug-ins starts faster

    parser = configparser.ConfigParser(delimiters=("=",), interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    with suppress(configparser.Error):
        parser.read_string(text)
    for group in parser.sections():
        if group.startswith(GROUP):
            for name, place in parser.items(group):
                yield Plugin(group.removeprefix(GROUP), name, package, version, place)


_added: dict[tuple[str, str], str] = {}
"""(kind, name) of each row that is not built in -> the module that added it."""


def origin(kind: str, name: str) -> Plugin | None:
    """The origin of a row that is in use; None for a built-in one."""
    module = _added.get((kind, name))
    if module is None:
        return None
    top = module.partition(".")[0]
    plugins = (plugin for plugin in installed(kind) if plugin.name == name)
    return next((p for p in plugins if re.split(r"[.:]", p.place)[0] == top), Plugin(kind, name, "", "", module))


def passed_through(error: BaseException) -> Plugin | None:
    """The plug-in in whose code an error occurred, or through which it passed; None if there is none."""
    tops = {module.partition(".")[0]: row for row, module in _added.items()}
    for frame, _ in walk_tb(error.__traceback__):
        top = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if top in tops:
            return origin(*tops[top])
    return None


class Table(Mapping[str, Row], Generic[Row]):
    """kind: suffix of the name of the group of entry points. noun: what a row is called in messages. row: the class of
    the rows, or where it is defined. error: raised for an unknown name. rows: the built-in ones, or by name where they
    are defined. aliases: other names for known rows.

    As a mapping it has the built-in rows and those that were added or loaded; `find` also searches installed plug-ins.

    >>> from tellapart.errors import ModelError
    >>> shapes = Table("shapes", "shape", Plugin, ModelError, [Plugin("shapes", "disc", "", "", "")])
    >>> shapes.find("disk")
    Traceback (most recent call last):
    tellapart.errors.ModelError: There is no shape 'disk'. Did you mean 'disc'? Known: disc.
    """

    def __init__(
        self,
        kind: str,
        noun: str,
        row: type[Row] | str,
        error: type[TellapartError],
        rows: Iterable[Row] | Mapping[str, str] = (),
        *,
        aliases: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.kind, self.noun, self.error, self.aliases = kind, noun, error, aliases
        self._row = row
        named = rows if isinstance(rows, Mapping) else {row.name: row for row in rows}
        self._rows: dict[str, Row | str] = dict(named)
        self._built_in = frozenset(named)

    def __getitem__(self, name: str) -> Row:
        row = self._rows[name]
        if isinstance(row, str):
            row = self._rows[name] = self._checked(_imported(row), name)
        return row

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def names(self) -> tuple[str, ...]:
        """The names of all rows, including plug-ins that are not loaded, except unusable ones."""
        others = (plugin.name for plugin in installed(self.kind) if not self._refused(plugin))
        return tuple(dict.fromkeys((*self._rows, *others)))

    def add(self, row: Row, module: str) -> Row:
        """Add the row to the table and return it. module: where it comes from. A row of `__main__` may be added again,
        as a cell of a notebook may run twice.

        Raises PluginError for a name that is taken, or is not lower-case words joined by hyphens.
        """
        if not isinstance(row, self._class()):
            raise PluginError(f"Given {type(row).__name__} as a {self.noun}; expected {self._class().__name__}.")
        anew = module == "__main__" == _added.get((self.kind, row.name))
        if reason := "" if anew else self._wrong(row.name, row):
            raise PluginError(f"The {self.noun} {row.name!r} cannot be added: {reason}.")
        self._rows[row.name] = row
        _added[self.kind, row.name] = module
        return row

    def find(self, name: str) -> Row:
        """The row of this name; a plug-in is loaded for it.

        Raises the table's error, with the most similar names, if there is none; PluginError for a broken plug-in.
        """
        if name in self._rows:
            return self[name]
        for plugin in installed(self.kind):
            if plugin.name == name:
                return self.load(plugin)
        raise self.error(self.unknown(name))

    def unknown(self, name: str) -> str:
        """The message for an unknown name, with the most similar names."""
        return unknown(self.noun, name, self.names(), self.aliases)

    def load(self, plugin: Plugin) -> Row:
        """The row of a plug-in. Raises PluginError, with advice, if it is broken; it is ignored from then on."""
        reason = self._refused(plugin)
        if not reason:
            try:
                row = self._checked(_imported(plugin.place), plugin.name)
                reason = self._wrong(plugin.name, row)
            except (Exception, SystemExit) as error:  # noqa: BLE001 - a stranger's module may raise anything
                reason = f"{type(error).__name__}: {error}"
        if reason:
            raise PluginError(
                f"The {self.noun} {plugin.name!r} of the plug-in {plugin} is ignored: {reason.rstrip('.')}. "
                f"Fix it, or remove it: pip uninstall {plugin.package}"
            )
        self._rows[plugin.name] = row
        _added[self.kind, plugin.name] = plugin.place.partition(":")[0]
        return row

    def load_all(self) -> tuple[tuple[Row, ...], dict[str, str]]:
        """Every row, after loading all plug-ins; and the broken ones, by name, with the reason."""
        broken: dict[str, str] = {}
        for plugin in installed(self.kind):
            try:
                self.load(plugin)
            except PluginError as error:
                broken[plugin.name] = str(error)
        return tuple(self.values()), broken

    def _class(self) -> Any:
        if isinstance(self._row, str):
            self._row = _imported(self._row)
        return self._row

    def _checked(self, row: Any, name: str) -> Row:
        wanted = self._class()
        if not isinstance(row, wanted):
            raise TypeError(f"it is {type(row).__name__}, expected {wanted.__name__}")
        if row.name != name:
            raise ValueError(f"it calls itself {row.name!r}")
        found: Row = row
        return found

    def _refused(self, plugin: Plugin) -> str:
        """Why a plug-in cannot be loaded, as far as its metadata tell; else empty."""
        others = [str(other) for other in installed(self.kind) if other.name == plugin.name and other != plugin]
        if others:
            return f"{' and '.join(others)} defines one of the same name"
        return self._wrong(plugin.name) if plugin.name in self._built_in else _invalid(plugin.name)

    def _wrong(self, name: str, row: Row | None = None) -> str:
        """What is wrong with a name for this row; adding the same row again is allowed."""
        there = self._rows.get(name)
        return "the name is taken" if there is not None and there is not row else _invalid(name)


def _invalid(name: str) -> str:
    if NAME.fullmatch(name) and len(name) <= LONGEST:
        return ""
    return f"a name has at most {LONGEST} characters: lower-case words and numbers joined by hyphens"


def _imported(place: str) -> Any:
    """The object at "module:attribute"."""
    module, colon, attribute = place.partition(":")
    if not colon:
        raise ValueError(f"{place!r} is not an attribute of a module")
    found: Any = importlib.import_module(module.strip())
    for part in attribute.strip().split("."):
        found = getattr(found, part)
    return found
