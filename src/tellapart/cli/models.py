"""`tellapart models [NAME]`: list the architectures, or describe one."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

import tellapart as ta
from tellapart.cli import options
from tellapart.cli.console import display, show, show_json, table
from tellapart.files import terminal_safe
from tellapart.progress import Phase

if TYPE_CHECKING:
    from tellapart.models.pretrained import PretrainedBackbone


def command(
    name: Annotated[
        str | None, typer.Argument(help="An architecture, to show its options and layers.", show_default=False)
    ] = None,
    image_size: Annotated[int | None, typer.Option(help="Input size for the layers shown, in pixels.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Option of the model, such as model.filters=[64,64]."),
    ] = None,
    format: options.FormatOption = options.OutputFormat.table,
) -> None:
    """List the architectures, or show the options, layers and parameters of one."""
    from tellapart.models.registry import ARCHITECTURES, resolve

    if name is None:
        listed, broken = ARCHITECTURES.load_all()
        for reason in broken.values():
            print(terminal_safe(f"tellapart: {reason}"), file=sys.stderr)
        if format is options.OutputFormat.json:
            show_json([{"name": row.name, "summary": row.summary, "side": row.side} for row in listed])
            return
        rows = table("model", ">image side", "what it is")
        for row in listed:
            rows.add_row(row.name, str(row.side), row.summary)
        show(rows)
        show("tellapart models NAME shows the options and layers of one.")
        return
    from tellapart.models.build import layers
    from tellapart.models.classifier import Classifier
    from tellapart.task import ImageSpec, Task

    config = ta.make_config(model=name, settings=settings or ()).model
    row, chosen = resolve(config)
    side = image_size or row.side
    with display() as progress:
        progress.update(Phase.BUILDING, 0, 1)
        network = Classifier.from_config(Task(("no", "yes")), ImageSpec(side, side), config).network
    if format is options.OutputFormat.json:
        show_json(
            {
                "name": row.name,
                "summary": row.summary,
                "options": chosen.model_dump(),
                "parameters": network.count_params(),
                **(_origin(row.pretrained) if row.pretrained else {}),
            }
        )
        return
    choices = table("option", "value", "meaning", title=f"{row.name}: {row.summary}")
    for option, field in type(chosen).model_fields.items():
        choices.add_row(f"model.{option}", str(getattr(chosen, option)), field.description or "")
    show(choices)
    if row.pretrained:
        for word, value in _origin(row.pretrained).items():
            show(f"{word:9}{value}")
    shown = table("layer", "?kind", ">output", ">parameters")
    for each in layers(network):
        shown.add_row(*each)
    show(shown)


def _origin(row: PretrainedBackbone) -> dict[str, str]:
    """The input and scaling of a pretrained backbone, and the origin and licence of its weights."""
    from tellapart.models.pretrained_weights import described

    return {
        "image": f"{row.side}x{row.side}, at least {row.smallest}x{row.smallest}, fit {row.fit}",
        "scaling": row.scaling.words,
        "weights": described(row),
        "licence": f"{row.licence}, of the weights",
    }
