"""Options that several commands take, with the same words everywhere."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Any

import typer

from tellapart.errors import ConfigError

DATA_PANEL = "How the labels are found"

_DATA = typer.Argument(help="Folder, zip, tar, csv, parquet, idx folder, or builtin:pets.", show_default=False)
Data = Annotated[str, _DATA]
DataOrResume = Annotated[str | None, _DATA]
Weights = Annotated[
    str | None,
    typer.Option(help="Weights of a pretrained backbone: auto, imagenet, none, or a file.", show_default="auto"),
]
Seed = Annotated[int | None, typer.Option(help="Seed of splits, initial weights and augmentation.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any setting, such as train.batch_size=64.")
]
LabelPattern = Annotated[
    str | None,
    typer.Option(help="Regular expression over file names, with a group (?P<label>...).", rich_help_panel=DATA_PANEL),
]
PathColumn = Annotated[str | None, typer.Option(help="Table column with the image path.", rich_help_panel=DATA_PANEL)]
LabelColumn = Annotated[str | None, typer.Option(help="Table column with the class.", rich_help_panel=DATA_PANEL)]
Root = Annotated[
    str | None, typer.Option(help="Folder that the table's paths are relative to.", rich_help_panel=DATA_PANEL)
]
Kind = Annotated[
    str | None,
    typer.Option(
        metavar="multiclass|multilabel",
        help="One label an image, or several (one-hot columns, cells such as a|b); by default as the table has it.",
        rich_help_panel=DATA_PANEL,
    ),
]
CropBoxes = Annotated[
    bool,
    typer.Option("--crop-boxes", help="Each box of COCO or YOLO annotations is an image.", rich_help_panel=DATA_PANEL),
]
Corrections = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="CSV of images to relabel, drop or regroup.", rich_help_panel=DATA_PANEL),
]
Moved = Annotated[
    str | None,
    typer.Option(
        "--data", metavar="PLACE", help="New location of the run's images: a folder or archive, verified by digest."
    ),
]
GroupBy = Annotated[
    str | None,
    typer.Option(
        metavar="exif|name|looks|PATTERN",
        help="Keep images of one person, session or object in the same split: by camera and time, by file name up to "
        "its last number, by consecutive images that look alike, or by a regular expression over paths with "
        "(?P<group>...).",
        rich_help_panel=DATA_PANEL,
    ),
]
TrustCode = Annotated[bool, typer.Option("--trust-code", help="Run the custom network code that the run names.")]
TRIALS_PANEL = "Trials on a cluster"
Cluster = Annotated[
    str | None,
    typer.Option(metavar="auto|ADDRESS", help="Train trials on a Ray cluster.", rich_help_panel=TRIALS_PANEL),
]
TrialCpus = Annotated[int, typer.Option(min=1, help="Processor cores of each trial.", rich_help_panel=TRIALS_PANEL)]
TrialGpus = Annotated[
    float, typer.Option(min=0, help="GPUs of each trial, such as 1 or 0.5.", rich_help_panel=TRIALS_PANEL)
]
Parallel = Annotated[
    int | None,
    typer.Option(
        min=1, help="Most trials at a time.", rich_help_panel=TRIALS_PANEL, show_default="what there is room for"
    ),
]
CacheLimit = Annotated[str, typer.Option(help="Disk space for decoded images, such as 500MB or 20GB.")]


class Device(StrEnum):
    """Where ONNX Runtime computes: a value of inference.predictor.Device."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


DeviceOption = Annotated[
    Device, typer.Option(help="Device to predict on. auto: an NVIDIA GPU if ONNX Runtime can use it.")
]


Exact = Annotated[
    bool, typer.Option("--exact", help="The network as trained, even if `tellapart optimize` made a faster file.")
]


class OutputFormat(StrEnum):
    """How an answer is printed."""

    table = "table"
    json = "json"


FormatOption = Annotated[OutputFormat, typer.Option("--format", help="Output format.")]


def data_options(
    label_pattern: str | None,
    path_column: str | None,
    label_column: str | None,
    root: str | None,
    corrections: str | None = None,
    group_by: str | None = None,
    crop_boxes: bool = False,
    kind: str | None = None,
) -> dict[str, Any]:
    return {
        "label_pattern": label_pattern,
        "path_column": path_column,
        "label_column": label_column,
        "root": root,
        "corrections": corrections,
        "group_by": group_by,
        "crop_boxes": crop_boxes or None,
        "kind": kind,
    }


def resume_alone(what: str, *begun: object, besides: str = "no other option") -> None:
    """`--resume` takes no setting that was decided at the start. what: whose images and settings are used."""
    if any(value not in (None, []) for value in begun):
        raise ConfigError(f"--resume continues with the {what}'s own images and settings. Give {besides} with it.")


def begin_or_resume(
    command: str, data: str | None, resume: str | None, *begun: object, noun: str, besides: str
) -> None:
    """Raise ConfigError if neither images nor --resume is given, or --resume with more options than `besides`."""
    if resume is not None:
        resume_alone(noun, data, *begun, besides=besides)
    elif data is None:
        raise ConfigError(f"Give the images, such as: tellapart {command} photos/   (or --resume {command.upper()})")


def parse_duration(text: str, option: str = "--budget") -> float:
    """A time in seconds.

    >>> parse_duration("10m"), parse_duration("90s"), parse_duration("1.5h")
    (600.0, 90.0, 5400.0)
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smh])\s*", text, re.IGNORECASE)
    if found is None or not float(found[1]):
        raise typer.BadParameter(
            f"{text!r} is not a duration; expected a value such as 30s, 10m or 1h.", param_hint=option
        )
    return float(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2].lower()]


def parse_bytes(text: str, option: str = "--cache-limit") -> int:
    """A size in bytes.

    >>> parse_bytes("1.5 GB")
    1500000000
    """
    found = re.fullmatch(r"\s*([\d.]+)\s*([kmgt]?)(i?)(b?)\s*", text, re.IGNORECASE)
    try:
        number = float(found[1]) if found else float("nan")
    except ValueError:
        number = float("nan")
    if found is not None and number and not (found[2] or found[4]):
        raise typer.BadParameter(f"{text!r} has no unit; do you mean {text.strip()}GB or MB?", param_hint=option)
    if found is None or number != number:
        raise typer.BadParameter(f"{text!r} is not a size; expected a value such as 500MB or 20GB.", param_hint=option)
    base = 1024 if found[3] else 1000
    return int(number * base ** ("kmgt".index(found[2].lower()) + 1 if found[2] else 0))
