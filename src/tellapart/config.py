"""Config: every setting of a run, validated. TOML in and out; `--set train.epochs=5` changes one value.

A field that is None is decided later from the images or the model; the run stores the value decided on.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import tomli_w
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from tellapart.errors import ConfigError, unknown
from tellapart.files import to_json
from tellapart.task import Fit, ImageSpec, Interpolation

AUTO = "auto"
"""The model name that selects a model based on the images."""

_LONGEST = 200
"""Most characters of a wrong value that a message repeats."""

FillMode = Literal["nearest", "reflect", "constant"]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


class DataConfig(_Section):
    """How labels are found and how images are split."""

    label_pattern: str | None = Field(None, description="regular expression over file names, with a group `label`")
    path_column: str | None = Field(None, description="table column with the image path")
    label_column: str | None = Field(None, description="table column with the class")
    root: str | None = Field(None, description="folder that the table's paths are relative to")
    kind: Literal["multiclass", "multilabel"] | None = Field(
        None,
        description="multiclass: one label an image; multilabel: several, or none; None: multilabel if a row of the "
        "table has several",
    )
    crop_boxes: bool = Field(False, description="each box of COCO or YOLO annotations is an image of its class")
    corrections: str | None = Field(
        None, description="csv of images to relabel, drop or regroup, as check --write makes"
    )
    group_by: str | None = Field(
        None,
        description="how to group images that must share a split: exif, name, looks, or a pattern with (?P<group>...)",
    )
    test_fraction: float = Field(0.2, ge=0, lt=1, description="fraction of all images held out for the test split")
    validation_fraction: float = Field(
        0.2, gt=0, lt=1, description="fraction of the training images held out for validation"
    )
    max_pixels: int = Field(
        100_000_000, gt=0, description="an image with more pixels is left out as a possible decompression bomb"
    )
    max_seconds: float = Field(20, gt=0, le=3600, description="an image that takes longer to decode is left out")
    max_memory: int = Field(
        2_000_000_000, ge=10_000_000, description="bytes; an image that takes more to decode is left out"
    )
    max_bytes: int = Field(2**30, gt=0, description="a larger file is left out and never read in full")
    damaged: Literal["keep", "leave-out"] = Field(
        "keep", description="what to do with damaged images that still decode; they are reported either way"
    )


class ImageConfig(_Section):
    """The network's input. None: the model's own; or the images' own size, if they are small and all of one size."""

    height: int | None = Field(None, gt=0)
    width: int | None = Field(None, gt=0)
    channels: Literal[1, 3] | None = None
    fit: Fit | None = None
    interpolation: Interpolation = "bilinear"


class AugmentConfig(_Section):
    """Random changes to training images, defined as in Keras' ImageDataGenerator, applied in one warp."""

    rotation: float = Field(0, ge=0, le=180, description="degrees, drawn from -r..r")
    width_shift: float = Field(0, ge=0, le=1, description="fraction of the width, drawn from -s..s")
    height_shift: float = Field(0, ge=0, le=1, description="fraction of the height, drawn from -s..s")
    shear: float = Field(0, ge=0, lt=90, description="degrees, drawn from -s..s")
    zoom: float = Field(0, ge=0, lt=1, description="each side's factor is drawn from 1-z..1+z")
    horizontal_flip: bool = False
    vertical_flip: bool = False
    brightness: float = Field(0, ge=0, lt=1, description="factor drawn from 1-b..1+b")
    fill: FillMode = "nearest"
    fill_value: int = Field(0, ge=0, le=255, description="grey level of `constant` fill")

    @property
    def active(self) -> bool:
        """Whether any image can be changed."""
        return self != AugmentConfig(fill=self.fill, fill_value=self.fill_value)


AUGMENTATIONS: dict[str, AugmentConfig] = {
    "none": AugmentConfig(),
    "light": AugmentConfig(rotation=5, width_shift=0.05, height_shift=0.05, zoom=0.05, horizontal_flip=True),
    "medium": AugmentConfig(
        rotation=15, width_shift=0.1, height_shift=0.1, shear=5, zoom=0.15, horizontal_flip=True, brightness=0.1
    ),
    "strong": AugmentConfig(
        rotation=30, width_shift=0.2, height_shift=0.2, shear=10, zoom=0.3, horizontal_flip=True, brightness=0.3
    ),
}


class ModelConfig(BaseModel):
    """Name of an architecture and its own options, checked by the architecture's row in models.registry.

    weights, of a pretrained backbone: `auto` (the file inside the package, else imagenet), `imagenet` (the official
    file, downloaded once), `none` (random), or the path of a file.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str = Field(AUTO, description="auto: chosen from the images")
    weights: str = Field("auto", description="weights of a pretrained backbone: auto, imagenet, none, or a file")
    mirrored: bool = Field(
        False, description="predict from the average features of an image and its mirror image, at twice the cost"
    )

    @model_validator(mode="after")
    def _finite(self) -> Self:
        if any(isinstance(value, float) and not isfinite(value) for value in self.options.values()):
            raise ValueError("expected finite numbers")
        return self

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


def _blocks(value: object) -> int | str:
    if value == "all" or (isinstance(value, int) and value >= 0):
        return value
    if isinstance(value, str) and value.isdecimal():
        return int(value)
    raise ValueError("expected a number of blocks, or all")


class TrainConfig(_Section):
    """How the network is fitted."""

    optimizer: Literal["adam", "adamw", "sgd", "rmsprop"] = "adam"
    learning_rate: float = Field(0.001, gt=0)
    schedule: Literal["constant", "cosine", "warmup-cosine"] = Field(
        "constant",
        description="cosine decays to zero over all epochs; warmup-cosine rises from zero in their first tenth before",
    )
    weight_decay: float = Field(0, ge=0, description="decoupled weight decay")
    batch_size: int = Field(32, gt=0)
    epochs: int = Field(30, gt=0)
    steps_per_epoch: int | None = Field(None, gt=0, description="None: each image once per epoch")
    validation_steps: int | None = Field(None, gt=0, description="None: all validation images")
    monitor: Literal["val_loss", "val_accuracy"] = Field("val_loss", description="metric that selects the best epoch")
    patience: int = Field(5, ge=0, description="epochs without improvement before training stops; 0: never stop early")
    class_weights: Literal["auto", "balanced", "none"] = Field(
        "auto", description="auto: balanced if the largest class has over 1.5 times as many images as the smallest"
    )
    label_smoothing: float = Field(0, ge=0, lt=0.5)
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    views: int | None = Field(
        None,
        gt=0,
        description="views of each training image for a frozen backbone, the first without augmentation; None: 1, with "
        "augmentation 4",
    )
    fine_tune: Annotated[int | Literal["all"], BeforeValidator(_blocks)] = Field(
        0, description="top blocks of the backbone to fine-tune after the head is trained; all: the whole backbone"
    )
    fine_tune_learning_rate: float = Field(0.0001, gt=0)
    fine_tune_layer_decay: float = Field(
        1,
        gt=0,
        le=1,
        description="factor on the learning rate from each block of the backbone to the one below it; 1: one rate for "
        "all",
    )
    fine_tune_average: bool = Field(
        False, description="average the weights before and after fine-tuning, if validation images prefer that"
    )
    fine_tune_on: Literal["images", "activations"] = Field(
        "images",
        description="images: the whole network computes in each epoch, on images augmented anew; activations: what "
        "enters the lowest block that learns is computed once for each of train.views, so that an epoch costs the "
        "blocks that learn alone",
    )
    track: tuple[str, ...] = Field(
        (),
        description="trackers to log the run to: tensorboard (files in RUN/tensorboard), mlflow (MLFLOW_TRACKING_URI)",
    )
    sure_accuracy: float = Field(0.99, gt=0, lt=1, description="accuracy required of the predictions called sure")


class Config(_Section):
    """One experiment.

    >>> Config.from_dict({"train": {"epochs": 5}}).with_values(["train.epochs=7"]).train.epochs
    7
    """

    title: str = Field("", description="description of the experiment in one line")
    published: str = Field("", description="published result of this experiment")
    seed: int = Field(0, ge=0)
    data: DataConfig = DataConfig()
    image: ImageConfig = ImageConfig()
    augment: AugmentConfig | None = Field(
        None, description="None: light; or none for a frozen backbone, which sees each image once"
    )
    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, values: Any) -> Any:
        """`augment = "light"` means the preset of that name."""
        if isinstance(values, dict) and isinstance(values.get("augment"), str):
            values = {**values, "augment": augmentation(values["augment"])}
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Config:
        """Raises ConfigError that names each wrong field."""
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise ConfigError(_explain(error, cls)) from None

    @classmethod
    def from_toml(cls, text: str, name: str = "configuration") -> Config:
        """Raises ConfigError for text that is not TOML or has wrong fields."""
        try:
            return cls.from_dict(tomllib.loads(text))
        except (ValueError, RecursionError) as error:  # ValueError: also a number of thousands of digits
            raise ConfigError(f"{name} is not valid TOML: {error}.") from None

    @classmethod
    def read(cls, path: Path) -> Config:
        """A config.toml. Raises ConfigError for a missing file, and as from_toml."""
        try:
            return cls.from_toml(path.read_text(encoding="utf-8"), str(path))
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise ConfigError(f"Cannot read the configuration {path}: {reason}.") from None

    def to_dict(self) -> dict[str, Any]:
        """Plain values by section, for from_dict."""
        return self.model_dump(exclude_none=True)

    def to_toml(self) -> str:
        """Text for from_toml; None values are left out."""
        return tomli_w.dumps(self.to_dict())

    def with_values(self, assignments: Iterable[str]) -> Config:
        """A copy with `section.key=value` applied; a value is read as TOML, else as a string."""
        values = self.to_dict()
        for assignment in assignments:
            name, equals, text = assignment.partition("=")
            keys = name.strip().split(".")
            if not equals or not all(keys):
                raise ConfigError(f"Given {assignment!r}; expected section.key=value, such as train.epochs=5.")
            try:
                value = tomllib.loads(f"value = {text}")["value"]
            except tomllib.TOMLDecodeError:
                value = text.strip()
            place = values
            for key in keys[:-1]:
                place = place.setdefault(key, {})
                if not isinstance(place, dict):
                    raise ConfigError(f"{name.strip()!r}: {key!r} holds a value, not a section.")
            place[keys[-1]] = value
        return type(self).from_dict(values)

    @property
    def digest(self) -> str:
        """Equal for configurations of the same run; description (title, published) and trackers do not count."""
        values = self.model_dump(exclude={"title": True, "published": True, "train": {"track"}})
        return hashlib.blake2b(to_json(values, ascii=True, sort_keys=True).encode(), digest_size=16).hexdigest()


@dataclass(frozen=True)
class Plan:
    """The configuration that a run is trained and resumed with, in which nothing is open; reasons: what was chosen from
    the images and why, in words. Raises ConfigError for a configuration with an open setting."""

    config: Config
    reasons: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        config, image = self.config, self.config.image
        open_image = None in (image.height, image.width, image.channels, image.fit)
        if open_image or config.augment is None or config.model.name == AUTO:
            raise ConfigError("The configuration of a run leaves its model, image or augment to be decided.")

    @property
    def spec(self) -> ImageSpec:
        """The image that the network takes."""
        return ImageSpec.from_dict(self.config.image.model_dump())


def augmentation(name: str) -> AugmentConfig:
    """The augmentation preset of this name. Raises ConfigError with the nearest names."""
    if name not in AUGMENTATIONS:
        raise ConfigError(unknown("augmentation", name, AUGMENTATIONS))
    return AUGMENTATIONS[name]


def _explain(error: ValidationError, model: type[BaseModel]) -> str:
    lines = []
    for problem in error.errors():
        place = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            lines.append(unknown("setting", place, _setting_names(model)))
        else:
            lines.append(f"{place}: {in_words(problem['msg'])}; given {repr(problem['input'])[:_LONGEST]}.")
    return " ".join(lines)


def first_problem(error: ValidationError) -> str:
    """Where something is wrong, and what."""
    (problem, *_) = error.errors()
    return ".".join(map(str, problem["loc"])) + ": " * bool(problem["loc"]) + in_words(problem["msg"])


def in_words(message: str) -> str:
    """pydantic's message about a value, without its prefixes.

    >>> in_words("Input should be greater than 0"), in_words("Value error, expected a number")
    ('should be greater than 0', 'expected a number')
    """
    return message.removeprefix("Value error, ").removeprefix("Input ")


def _setting_names(model: type[BaseModel], prefix: str = "") -> list[str]:
    names = []
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            names.extend(_setting_names(kind, f"{prefix}{name}."))
        else:
            names.append(prefix + name)
    return names
