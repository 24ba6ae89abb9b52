"""Every device of this machine, and of other processes, for one network: `devices` of `train` and `resume`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from tellapart.api.runs import let_run
from tellapart.config import Config
from tellapart.data.cache import DEFAULT_LIMIT, PixelCache
from tellapart.data.scan import changed_images
from tellapart.errors import ConfigError, TellapartError
from tellapart.models.backend import choose_jax
from tellapart.models.devices import ONE, Devices
from tellapart.models.registry import resolve
from tellapart.progress import BY_HAND, SILENT, Progress
from tellapart.runs.relocate import relocate
from tellapart.runs.run import RunFolder
from tellapart.training.launchers import OWN, Place, place_of

if TYPE_CHECKING:
    from tellapart.training.epochs import Watch
    from tellapart.training.processes import Crew
    from tellapart.training.sharded import FeatureSource


@dataclass(frozen=True)
class Team:
    """The devices that train one network: of this process, and of those that it met, if any."""

    devices: Devices = ONE
    crew: Crew | None = None

    @property
    def leads(self) -> bool:
        """Whether this process reads the images and writes the run; the others call `take_part`."""
        return self.devices.rank == 0

    def require(self, config: Config, time: float | None = None) -> None:
        """Raises ConfigError for what only one device can do. config: with its model decided; time: as of `train`."""
        if self == ALONE:
            return
        if not self.leads:
            raise ConfigError(f"Process {self.devices.rank} does not lead the training. Call take_part in it.")
        if time is not None:
            raise ConfigError("A time budget is spent on one device. Leave out the time, or --devices.")
        name, tuned = config.model.name, config.train.fine_tune
        pretrained = resolve(config.model)[0].pretrained is not None
        if pretrained and not tuned:
            raise ConfigError(
                f"The features of {name} are computed once, by one device. --devices is for a network that is "
                "fine-tuned (--fine-tune), or trained from scratch (--model cnn). The machines of a --cluster compute "
                "them with --feature-store FOLDER|URL."
            )
        if pretrained and self.crew is not None:
            raise ConfigError(
                f"{name} is fine-tuned on the devices of one machine: give --devices all there, without a launcher or "
                "--cluster."
            )
        self.devices.require_divides(config.train)

    def fit(
        self,
        run: RunFolder,
        cache: PixelCache,
        *,
        deadline: float | None,
        progress: Progress,
        watch: Watch,
        source: FeatureSource | None,
    ) -> None:
        """As training.fit, with all of them. source: only of one device, where the features are computed elsewhere."""
        from tellapart.training.fit import fit, fit_together

        if self == ALONE:
            fit(run, cache, deadline=deadline, progress=progress, watch=watch, source=source)
            return
        if self.crew is not None:
            self.crew.lead(run)
        fit_together(run, cache, self.devices, deadline=deadline, progress=progress, watch=watch)

    def take_part(
        self,
        data: str | os.PathLike[str] | None = None,
        *,
        model: Any = None,
        trust_code: bool = False,
        cache_limit: int = DEFAULT_LIMIT,
        progress: Progress = BY_HAND,
    ) -> None:
        """In a process that does not lead: train with the others to the last epoch.

        data: the place of the images on this machine, if it is not that of the process that leads. model, trust_code:
        as of `resume`. Raises TrainingError if one of the processes cannot go on.
        """
        from tellapart.training.fit import take_part

        assert self.crew is not None
        with TemporaryDirectory(prefix="tellapart-") as folder:
            run = self.crew.receive(Path(folder) / "run")
            with PixelCache(run.spec, limit_bytes=cache_limit) as cache:
                try:
                    let_run(run, model=model, trust_code=trust_code)
                    problem = _lacking(run, data, cache, progress)
                except TellapartError as error:
                    problem = str(error)
                self.crew.answer(problem)
                take_part(run, cache, self.devices)


ALONE = Team()
"""One device, as without --devices."""


@contextmanager
def all_devices(cluster: str | None = None) -> Iterator[Team]:
    """All devices of this machine, by JAX, and of the processes that a launcher started with this one
    (docs/how-to/several-devices.md). cluster: the address of a Ray cluster, `auto` or HOST:PORT, that this machine
    belongs to: a process is started on each of its other machines.

    Before anything else of Keras in this process. Raises MissingExtraError without JAX, and ConfigError if the
    variables of the launcher are wrong, a process does not come in time, or has other versions.

    >>> with ta.all_devices() as devices:  # doctest: +SKIP
    ...     run = ta.train("photos/", model="cnn", devices=devices)
    """
    choose_jax("Training on several devices")
    with ExitStack() as stack:
        if cluster is None:
            place = place_of(os.environ)
        else:
            from tellapart.cluster.processes import started

            place = stack.enter_context(started(cluster, take_part_at))
        if place is None:
            yield Team(Devices.found())
            return
        from tellapart.training.processes import crew_of

        crew = stack.enter_context(crew_of(place))
        yield Team(crew.devices, crew)


def take_part_at(place: Place) -> None:
    """Train with the process that leads, in one that it had started on another machine."""
    from tellapart.training.processes import crew_of

    os.environ["KERAS_BACKEND"] = "jax"
    with crew_of(place) as crew:
        # Whoever leads has started this one, and names only code that it was told to run.
        Team(crew.devices, crew).take_part(trust_code=True, progress=SILENT)


def refuse_launched() -> None:
    """Raise ConfigError for a process that was started as one of several, and is to train alone."""
    if os.environ.get(OWN.rank):
        raise ConfigError(f"{OWN.rank} is set, so this is one of several processes: give --devices all, or unset it.")


def _lacking(run: RunFolder, data: str | os.PathLike[str] | None, cache: PixelCache, progress: Progress) -> str:
    """What of the run's images this machine has not, in words; they are in `data` if not where the run says."""
    catalog = run.catalog
    if data is not None and not catalog.root.exists():
        relocate(run, data, progress=progress)
        catalog = run.catalog
    other, _ = changed_images(catalog, run.config.data, cache=cache, progress=progress)
    if not other:
        return ""
    return (
        f"{len(other):,} of {len(catalog):,} images in {catalog.root} are missing or others than those of process 0, "
        f"the first: {other[0]}. Give all processes the same images."
    )
