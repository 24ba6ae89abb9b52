"""`tellapart export RUN --to FORMAT`: the trained network for another runtime, compared with Keras."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import Annotated

import typer

import tellapart as ta
from tellapart.cli import options
from tellapart.cli.console import display, show, show_json
from tellapart.inference.exports import EXPORTS


class Quantize(StrEnum):
    """The number type after quantisation."""

    int8 = "int8"


def command(
    run: Annotated[str, typer.Argument(help="Run folder.", show_default=False)],
    to: Annotated[str, typer.Option(metavar="|".join(EXPORTS), help="Export format, named for its runtime.")] = "onnx",
    format: Annotated[str | None, typer.Option("--format", hidden=True, help="Deprecated name of --to.")] = None,
    quantize: Annotated[
        Quantize | None,
        typer.Option(help="Quantise: smaller and faster, slightly less accurate. onnx, web, litert, mediapipe."),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(help="Output file, or folder for saved-model, web and mlflow.", show_default="in RUN/exports"),
    ] = None,
    runtime: Annotated[
        str | None,
        typer.Option(help="Folder of the npm package onnxruntime-web, to put into a web page that needs no internet."),
    ] = None,
    moved: options.Moved = None,
    trust_code: options.TrustCode = False,
    json: Annotated[bool, typer.Option("--json", help="Print the record as JSON.")] = False,
) -> None:
    """Export a run's network with its class names, calibration and thresholds, and report what it differs by.

    For phones: mediapipe, litert, coreml. For browsers: web. For servers and programs: onnx, openvino, saved-model,
    keras, mlflow. A file whose outputs differ by more than the tolerance is not written.
    """

    if format is not None:
        print("tellapart: --format is deprecated and will be removed; use --to.", file=sys.stderr)
        to = format
    with display() as progress:
        if moved is not None:
            ta.open_run(run, data=moved, progress=progress)
        made = ta.export(
            run,
            to,
            out=out,
            quantize=quantize.value if quantize else None,
            runtime=runtime,
            trust_code=trust_code,
            progress=progress,
        )
    if json:
        show_json(made.to_dict())
        return
    place = made.path / "index.html" if (made.path / "index.html").is_file() else made.path
    show(f"{place}  {made.bytes / 1e6:.1f} MB; details in {made.path.name}.json")
    if made.difference is None:
        show("not compared with the trained network, as it does not run on this system; its structure was read back")
        return
    kind = "mean" if made.quantized else "largest"
    of = f"on {made.images} images; tolerance {made.bound:g}"
    show(f"{kind} difference from the trained network {made.difference:.1e} {of}")
    if made.accuracy:
        before, after = made.accuracy
        show(f"accuracy on the validation split: {before} before, {after} in {made.quantized}")
