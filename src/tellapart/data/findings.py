"""Finding: one thing about the images that a user should know. Made by sources and checks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Finding:
    """kind is a stable kebab-case word; `error` and `warning` need a person's attention, `note` is only information.

    >>> Finding("empty-class", "warning", ("birds",), "1 class folder is empty.", "Left out.").needs_person
    True
    """

    kind: str
    severity: Severity
    paths: tuple[str, ...]
    meaning: str
    done: str = ""

    @property
    def needs_person(self) -> bool:
        """Whether a person should look: errors and warnings."""
        return self.severity != "note"

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "kind": self.kind,
            "severity": self.severity,
            "meaning": self.meaning,
            "done": self.done,
            "paths": list(self.paths),
        }


def images_that(count: int, one: str, many: str) -> str:
    """A count of images with its verb.

    >>> images_that(1, "is", "are"), images_that(3, "is", "are")
    ('1 image is', '3 images are')
    """
    return f"1 image {one}" if count == 1 else f"{count} images {many}"
