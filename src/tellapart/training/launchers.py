"""What started several processes -> the place of this one among them: the table of launchers."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tellapart.errors import ConfigError

_FIRST_PORT = 61440
"""SLURM names no port: one of the last 4,096 by the number of the job, as JAX chooses it too."""
_ADDRESS = re.compile(r"(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:]+\]):(?P<port>\d{1,5})")


@dataclass(frozen=True)
class Place:
    """rank: which of `world` processes this is, from 0; process 0 listens at host:port, and the others come there."""

    rank: int
    world: int
    host: str
    port: int

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Launcher:
    """rank, world, where: the variables that it sets for each process; address: of process 0, from these.

    begun_by: a variable without which the others mean nothing; "": each of them means a launch."""

    name: str
    rank: str
    world: str
    where: tuple[str, ...]
    address: Callable[[Mapping[str, str]], str]
    begun_by: str = ""

    def place(self, environ: Mapping[str, str]) -> Place | None:
        """Raises ConfigError for variables that are half set, or wrong."""
        needed = (self.rank, self.world, *self.where)
        there = [name for name in needed if environ.get(name)]
        if not there or (self.begun_by and not environ.get(self.begun_by)):
            return None
        lacking = [name for name in needed if name not in there]
        if lacking:
            raise ConfigError(
                f"{' and '.join(there)} {'is' if len(there) == 1 else 'are'} set, but not {' and '.join(lacking)}. "
                f"{self.name} sets {', '.join(needed)} for each process; set all, or none for one process."
            )
        rank, world = (_number(name, environ[name]) for name in (self.rank, self.world))
        if not 0 <= rank < world:
            raise ConfigError(f"{self.rank} is {rank}; of {world} processes ({self.world}) it is 0 to {world - 1}.")
        found = _ADDRESS.fullmatch(self.address(environ))
        if found is None or not 0 < int(found["port"]) < 1 << 16:
            raise ConfigError(f"{' and '.join(self.where)} must give HOST:PORT; given {self.address(environ)!r}.")
        return Place(rank, world, found["host"].strip("[]"), int(found["port"]))


def _number(name: str, text: str) -> int:
    if not text.isdecimal():
        raise ConfigError(f"{name} is {text[:50]!r}; expected a whole number.")
    return int(text)


def _slurm_address(environ: Mapping[str, str]) -> str:
    """The first node of the job step: `node[003-007,9],x` begins with node003."""
    found = re.match(r"(?P<prefix>[^,\[]+)(\[(?P<first>\d+))?", environ["SLURM_STEP_NODELIST"])
    job = _number("SLURM_JOB_ID", environ["SLURM_JOB_ID"])
    host = "" if found is None else found["prefix"] + (found["first"] or "")
    return f"{host}:{_FIRST_PORT + job % 4096}"


def _torch_address(environ: Mapping[str, str]) -> str:
    """torchrun listens at the port of its variable itself: the next one is free for us."""
    port = _number("MASTER_PORT", environ["MASTER_PORT"])
    return f"{environ['MASTER_ADDR']}:{port + (environ.get('TORCHELASTIC_USE_AGENT_STORE') == 'True')}"


OWN = Launcher(
    "A launcher of your own",
    "TELLAPART_RANK",
    "TELLAPART_WORLD",
    ("TELLAPART_COORDINATOR",),
    lambda environ: environ["TELLAPART_COORDINATOR"],
)
LAUNCHERS = (
    OWN,
    Launcher("torchrun", "RANK", "WORLD_SIZE", ("MASTER_ADDR", "MASTER_PORT"), _torch_address),
    Launcher(
        "srun",
        "SLURM_PROCID",
        "SLURM_NTASKS",
        ("SLURM_STEP_NODELIST", "SLURM_JOB_ID"),
        _slurm_address,
        # The script of a job has the others as well, where srun has started nothing.
        begun_by="SLURM_STEP_NODELIST",
    ),
)
"""In the order in which they are looked for: srun may start torchrun, and each may start a launcher of your own."""


def place_of(environ: Mapping[str, str]) -> Place | None:
    """The place of this process; None where it is the only one. Raises ConfigError as Launcher.place does.

    >>> place_of({"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "node7", "MASTER_PORT": "29500"})
    Place(rank=1, world=2, host='node7', port=29500)
    """
    found = next((place for launcher in LAUNCHERS if (place := launcher.place(environ)) is not None), None)
    return None if found is None or found.world == 1 else found
