"""Target: one entry point for untrusted bytes. The rows are in targets.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path


def _our_errors() -> tuple[type[Exception], ...]:
    from tellapart.errors import TellapartError

    return (TellapartError,)


@dataclass(frozen=True)
class Promise:
    """seconds: of one input, far above what a slow machine needs for one of the size of a seed. megabytes: of the whole
    process, libraries included."""

    seconds: int = 10
    megabytes: int = 1500


@dataclass(frozen=True)
class Target:
    """seeds: inputs to begin with, by what they are, given a run. run: takes one input in, in a folder of its own, or
    raises. told: the exceptions that it may raise. guided: modules whose branches guide the search; none is imported
    before. prepare: done once before the first input, given the run. promised: the most seconds and megabytes that an
    input may take; None where SECURITY.md promises neither. connects: it is a client itself."""

    name: str
    seeds: Callable[[Path], Mapping[str, bytes]]
    run: Callable[[bytes, Path], object]
    guided: tuple[str, ...] = ()
    told: Callable[[], tuple[type[Exception], ...]] = _our_errors
    prepare: Callable[[Path], object] | None = None
    promised: Promise | None = Promise()
    connects: bool = False
