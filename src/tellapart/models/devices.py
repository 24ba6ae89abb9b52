"""One network on several devices: data parallelism of Keras on JAX, in one process or in several.

Each device holds the whole network and computes its part of every batch; JAX adds up what they found. Nothing here
decides which images a batch has: data.batches.Share does.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tellapart.config import TrainConfig
from tellapart.data.batches import Share
from tellapart.errors import ConfigError, TrainingError
from tellapart.models.backend import library, part, start_keras


@dataclass(frozen=True)
class Devices:
    """count: the devices of all processes; rank: which of `world` processes this is."""

    count: int = 1
    rank: int = 0
    world: int = 1

    @classmethod
    def found(cls) -> Devices:
        """All that JAX finds in this process, and in those that it was joined with. Raises ConfigError if these have
        different numbers of devices."""
        start_keras()
        jax = library()
        found = cls(jax.device_count(), jax.process_index(), jax.process_count())
        if jax.local_device_count() * found.world != found.count:
            raise ConfigError(
                f"Process {found.rank} has {jax.local_device_count()} of the {found.count} devices of {found.world} "
                "processes; each needs the same number."
            )
        return found

    @property
    def share(self) -> Share:
        """What this process makes of each batch."""
        return Share(self.rank, self.world, self.count)

    @property
    def told(self) -> str:
        """For the report."""
        where = f" in {self.world} processes" if self.world > 1 else ""
        return f"trained on {self.count} devices{where}, each with an equal part of every batch"

    @contextmanager
    def used(self) -> Iterator[None]:
        """Networks that are made inside are held by every device; with one, nothing changes."""
        if self.count == 1:
            yield
            return
        with _distribution().scope():
            yield

    @contextmanager
    def together(self) -> Iterator[None]:
        """What several processes do in step; afterwards each is alone. An error that only one of them has is not waited
        for: training.processes ends the others."""
        try:
            yield
        except (KeyboardInterrupt, TrainingError):  # all have agreed on it
            if self.world > 1:
                part()
            raise
        if self.world > 1:
            part()

    def hold(self, part: NDArray[Any], images: int) -> Any:
        """This process's share of a batch of so many images -> the batch, of which each device holds a part, or the
        whole where it does not divide. Any thread may call it."""
        if self.count == 1:
            return start_keras().ops.convert_to_tensor(part)
        layout = _distribution().get_data_layout(part.shape).backend_layout
        if images % self.count:
            layout = type(layout)(layout.mesh, library().sharding.PartitionSpec())
        return library().make_array_from_process_local_data(layout, part)

    def any(self, flag: bool) -> bool:
        """Whether it holds in any of the processes, all of which call this."""
        if self.world == 1:
            return flag
        return bool(_largest()(self.hold(np.full(self.count // self.world, flag), self.count)))

    def require_divides(self, train: TrainConfig) -> None:
        """Raises ConfigError for a batch that has no equal part for each device."""
        size, over = train.batch_size, train.batch_size % self.count
        if over:
            near = [str(other) for other in (size - over, size - over + self.count) if other]
            raise ConfigError(
                f"train.batch_size is {size}, which does not divide by {self.count} devices. Give {' or '.join(near)}."
            )


ONE = Devices()
"""The first device alone, as without --devices."""


@cache
def _distribution() -> Any:
    return start_keras().distribution.DataParallel(auto_shard_dataset=False)


@cache
def _largest() -> Any:
    jax, mesh = library(), _distribution().device_mesh.backend_mesh
    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    return jax.jit(lambda flags: flags.any(), out_shardings=everywhere)
