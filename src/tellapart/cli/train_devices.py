"""`train --devices all`: the devices that train, and what the processes do that do not lead."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from tellapart.files import terminal_safe

if TYPE_CHECKING:
    from tellapart.api.devices import Team
    from tellapart.progress import Progress


class Devices(StrEnum):
    """Which devices train a network."""

    all = "all"


DevicesOption = Annotated[
    Devices | None,
    typer.Option(
        help="Train from scratch, or fine-tune, on every device of this machine; from scratch also on those of "
        "processes that a launcher started (extra `jax`).",
        show_default="one device",
    ),
]


@dataclass(frozen=True)
class Given:
    """What processes need of the command. cluster: whose machines train; data: the place of the images on the machine
    of a process that does not lead."""

    cluster: str | None
    data: str | None
    trust_code: bool
    cache_limit: int


@contextmanager
def team_of(devices: Devices | None, given: Given, progress: Progress) -> Iterator[Team]:
    """The devices of the command. A process that does not lead takes part here, and ends with the last epoch."""
    from tellapart.api.devices import ALONE, all_devices, refuse_launched

    if devices is None and given.cluster is None:
        refuse_launched()
        yield ALONE
        return
    with all_devices(given.cluster) as team:
        if team.leads:
            yield team
            return
        place = None if given.data is None or not os.path.exists(given.data) else given.data  # noqa: PTH110
        team.take_part(place, trust_code=given.trust_code, cache_limit=given.cache_limit, progress=progress)
    rank, world = team.devices.rank, team.devices.world
    print(terminal_safe(f"tellapart: process {rank} of {world} is done; process 0 ends the run"), file=sys.stderr)
    raise typer.Exit
