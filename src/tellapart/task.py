"""Task and ImageSpec: the two small values that data and model agree on.

Both are stored in the run and in every exported file. Head, loss and metrics are derived from the Task; the one
pipeline from bytes to pixels (data.pixels) follows the ImageSpec.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from tellapart.errors import ConfigError

Kind = Literal["binary", "multiclass", "multilabel"]
Fit = Literal["squash", "crop", "pad"]
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]

MAX_SIDE = 8192
"""Most pixels per side of a network's input: far more than usual, and one image still fits into memory."""


SEPARATOR = "|"
"""Between the labels of an image that has several: `cat|dog`, in the order of the classes; none is an empty text."""


@dataclass(frozen=True)
class Form:
    """What follows from a kind. activation: of the last layer; layer: its name; one_unit: whether it has one unit for
    both classes, and not one a class."""

    activation: Literal["sigmoid", "softmax"]
    layer: str
    one_unit: bool = False


FORMS: dict[Kind, Form] = {
    "binary": Form("sigmoid", "probability", one_unit=True),
    "multiclass": Form("softmax", "probabilities"),
    "multilabel": Form("sigmoid", "probabilities"),
}


@dataclass(frozen=True)
class Task:
    """What to classify: the class names in order. Binary: the second class is the positive one. several: whether an
    image may have several of the classes, or none; they are then called its labels.

    >>> Task(("cats", "dogs")).kind, Task(("cats", "dogs"), several=True).kind
    ('binary', 'multilabel')
    """

    classes: tuple[str, ...]
    several: bool = False

    def __post_init__(self) -> None:
        if len(self.classes) < 2:
            found = f"only {self.classes[0]!r}" if self.classes else "none"
            raise ConfigError(f"A classifier needs at least two classes; found {found}.")
        if len(set(self.classes)) != len(self.classes):
            raise ConfigError(f"Class names must differ; given {', '.join(self.classes)}.")
        odd = [name for name in self.classes if self.several and (SEPARATOR in name or not name)]
        if odd:
            raise ConfigError(f"A label has a name without {SEPARATOR!r}, which separates labels; given {odd[0]!r}.")

    @property
    def kind(self) -> Kind:
        """multilabel for images with several labels; else binary for two classes, multiclass for more."""
        if self.several:
            return "multilabel"
        return "binary" if len(self.classes) == 2 else "multiclass"

    @property
    def form(self) -> Form:
        """What follows from the kind."""
        return FORMS[self.kind]

    @property
    def units(self) -> int:
        """Of the last layer of a network."""
        return 1 if self.form.one_unit else len(self.classes)

    def labels(self, text: str) -> tuple[str, ...]:
        """The labels of an image, from the text of its record.

        >>> Task(("cats", "dogs"), several=True).labels("cats|dogs"), Task(("a|b", "c")).labels("a|b")
        (('cats', 'dogs'), ('a|b',))
        """
        return labels_of(text, self.several)

    def join(self, said: Sequence[bool]) -> str:
        """The text of an image's record, from whether it has each of the labels.

        >>> Task(("cats", "dogs"), several=True).join([True, True])
        'cats|dogs'
        """
        return SEPARATOR.join(name for name, there in zip(self.classes, said, strict=True) if there)

    def index(self, label: str) -> int:
        """Position of a class, by name and never by folder order. Raises ConfigError for an unknown label."""
        try:
            return self.classes.index(label)
        except ValueError:
            raise ConfigError(f"{label!r} is not one of the classes {', '.join(self.classes)}.") from None

    def to_dict(self) -> dict[str, Any]:
        """For JSON and from_dict."""
        return {"kind": self.kind, "classes": list(self.classes)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Task:
        """Raises ConfigError, KeyError or TypeError for values that to_dict did not make."""
        classes = values["classes"]
        if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
            raise ConfigError("Class names must be a list of strings.")
        return cls(tuple(classes), several=values.get("kind") == "multilabel")


def labels_of(text: str, several: bool) -> tuple[str, ...]:
    """Of an image, by what its catalog has; several: whether that may be several labels."""
    return split_labels(text) if several else (text,)


def split_labels(text: str) -> tuple[str, ...]:
    """The labels in a text such as `cat|dog`; none in an empty one.

    >>> split_labels("cat|dog"), split_labels("")
    (('cat', 'dog'), ())
    """
    return tuple(filter(None, text.split(SEPARATOR)))


def require_one_label(several: bool, what: str, instead: str) -> None:
    """Raise ConfigError for images with several labels. what: is for one label alone; instead: what can be done."""
    if several:
        raise ConfigError(f"{what} is for images with one label each; these have several. {instead}")


@dataclass(frozen=True)
class ImageSpec:
    """The image a network takes: uint8, 0..255, shape (height, width, channels), channels 1 (grey) or 3 (RGB).

    fit: `squash` stretches to the size (as in most tutorials), `crop` covers it and cuts off the edges, `pad` fits
    inside it and fills with black.

    >>> ImageSpec(128, 128).shape
    (128, 128, 3)
    """

    height: int
    width: int
    channels: int = 3
    fit: Fit = "squash"
    interpolation: Interpolation = "bilinear"

    def __post_init__(self) -> None:
        if not (1 <= self.height <= MAX_SIDE and 1 <= self.width <= MAX_SIDE):
            raise ConfigError(
                f"A network takes images of 1 to {MAX_SIDE:,} pixels per side; given {self.height}x{self.width}."
            )
        if self.channels not in (1, 3):
            raise ConfigError(f"channels must be 1 (grey) or 3 (colour); given {self.channels}.")
        for name, value, known in (("fit", self.fit, Fit), ("interpolation", self.interpolation, Interpolation)):
            if value not in get_args(known):
                raise ConfigError(f"{name} must be one of {', '.join(get_args(known))}; given {value!r}.")

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, channels)."""
        return self.height, self.width, self.channels

    @property
    def key(self) -> str:
        """A name for cache keys, the same for equal specs."""
        return f"{self.height}x{self.width}x{self.channels}-{self.fit}-{self.interpolation}"

    def to_dict(self) -> dict[str, Any]:
        """For JSON and from_dict."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ImageSpec:
        """Raises ConfigError or TypeError for values that to_dict did not make."""
        if not all(isinstance(values[name], int) for name in ("height", "width", "channels") if name in values):
            raise ConfigError("height, width and channels must be whole numbers.")
        return cls(**values)
