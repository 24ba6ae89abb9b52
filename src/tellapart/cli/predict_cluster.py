"""`predict --cluster`: what it needs besides the options of `predict`, and what it says at the end."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from tellapart.cli.console import display
from tellapart.cli.exit_codes import NEEDS_PERSON
from tellapart.cli.options import Device
from tellapart.cli.predict_output import tell_errors
from tellapart.errors import ConfigError
from tellapart.files import terminal_safe

if TYPE_CHECKING:
    from tellapart.data.findings import Finding
    from tellapart.inference.predictor import Predictor


@dataclass(frozen=True)
class Asked:
    """The options of the command."""

    address: str
    out: str | None
    device: Device
    batch_size: int | None
    part_size: int | None
    path_column: str | None
    root: str | None


def predict_on_cluster(predictor: Predictor, images: Sequence[str], asked: Asked, *, alone: bool) -> None:
    """alone: whether no option was given that applies to one machine's output only."""
    from tellapart.cluster.inputs import Given
    from tellapart.cluster.predict import PART, Options, predict_on

    if asked.out is None or not alone:
        raise ConfigError(
            "--cluster writes parquet files to --out, a folder or URL that all machines share, and the same command "
            "continues them. Give --out, and omit --format, --resume, --top, --sort-into, --keywords and --exact."
        )
    left_out: list[Finding] = []
    given = Given(sys.stdin, asked.path_column, asked.root, told=left_out.append)
    options = Options(asked.device.value, asked.batch_size, asked.part_size or PART)
    with display() as progress:
        said = predict_on(asked.address, predictor, (images, given), asked.out, options, progress)
    parts = "1 part" if said.parts == 1 else f"{said.parts:,} parts"
    earlier = f", {said.rows - said.predicted:,} of them before" if said.rows > said.predicted else ""
    words = f"tellapart: {said.rows:,} rows{earlier}, as parquet in {parts}, in {said.address}"
    print(terminal_safe(words), file=sys.stderr)
    if tell_errors(said.errors, left_out):
        raise typer.Exit(NEEDS_PERSON)
