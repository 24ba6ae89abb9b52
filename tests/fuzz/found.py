"""Inputs that earlier searches found, each fixed since: the target, and the input, from the target's seeds or pasted.

test_fuzz.py tries each, and docs/soak.md names them.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Callable

from tests.fuzz import seeds

FOUND: dict[str, tuple[str, Callable[[list[bytes]], bytes]]] = {
    "a description of a network that is no UTF-8": ("descriptions of networks", lambda _: b"\xff"),
    "class means whose header does not end": (
        "run folders",
        lambda some: some[seeds.RUN_FILES.index("class_means.npy")].replace(b"}", b" "),
    ),
    "a JPEG of no height": ("images", lambda some: _flat(next(data for data in some if data[:2] == b"\xff\xd8"))),
    "a parquet file whose level histograms end pyarrow": (
        "tables",
        lambda _: _pasted(
            "eNqVU81u00AQnt1srVDl0CJ2tSv54AO1gkRDEilRgXBYu0koFNFGqkIqLk4wTqS0TeNA6I0H4MCBA0cegsfghHgIDhx5APbHjSu1F0bW"
            "zOzsfN/MZ9n4QPZqlNA7lO9TTOE2wPpdB4A6Li8isMaLWQIMyjdUNzeVu+Vh5QlCBUyJeN0A7qSjcXwSUQJNzNcmJ1ESq5yWttRpeLGI"
            "U5uTWbQYb8G+q+CU6MtpNIynwIhwRcsHl5ZEA5wNUbYcGvs4pZgR9hmxr8hv+UW3CWWnu9fZeRjxLKqlxH2lDCgG5TZUaDEuHNFUW6pR"
            "14nNIob3E2JfkP8T+d+Q28TltaiSTN5yG27kXTe8GGe8xPJmSgzlD8R+If8v9r/j/3uz14bdc4RvFLDfBUb8IvtIQLi8JHu9l/1H9p3z"
            "P/iBtmUSSCkPpbXnUi5lkMiOlIkME1MLVMMLnYRS7plCHqVNbWb8011FuqOSdtjOQPogV3akO9NB/9l0aM6J3DUko6xVW8f48wO9n96u"
            "OriclK0aXjLJ4HAFiPq18XFdV8NES6uv8EemqZvjr+wbjN90rdAL3f/BkKlRAxksre52DgoCK3WU688XHpxOq8evcsiV+yfAvVk0P38X"
            "L7ZHs9l2NJ+fLb338TydnJ169UalWqmJlvq+7QNeAUD/d/8AI+asMQ=="
        ),
    ),
    "a parquet column whose path is no UTF-8": (
        "tables",
        lambda _: _pasted(
            "eNptU71uE0EQnl2vT07kIonY1a50hQtyMlJibEu2QmSKPcc2gSASS5FxRHN2jrMlJ3F8BpOOjoYCIQpKHoLHoEI8BAUlD8D+XHyR8Og0"
            "Mzs73zffnO7wsexWKKH3KD+imMIWwPp9BwA6h+29RwEFukXZDt3cVKW1AlaeIJTBlIhXNeBOPByFFwElUMM8O74IolDlNL+tToObeRjb"
            "nEyD+WgbjlwFp0RfToJBOAFGhCsaHrg0L2rgbIii5cgOPnwOY4oZYZ8Q+4q8hpdz61B0rCieRCVK7CjtQDEot6FCg3HhiLpSqUb9T2yE"
            "GN6PiH1B3k/kfUNuHRezQSkav+Y2rORdN7wYJ7zE8iabGMofiP1C3l/sfccuzyGwxnNJAgyKK6qrhj1whGc2YL8zjHg59p6AcHledrsv"
            "hvujuKfeOf+DH2pbRL6U8kRaeyblQvqRbEsZyWZkar5qeK6TppSHppBGaVObGf/kQJHuqaTVbCUgfZBLO9Wdcb/3dDIw50geGJJh0qqt"
            "bfz1sdan1ZX7t5MSqc1bJumfLAFBrzI6q+pqM9KrVZf4U9PUSfF39Pqj845d9Eb3vzNkalRf+gu7dysF+b5ddZjunwruX07KZy9TyJ37"
            "x8AL02B2/Sac7w6n091gNrtaFN6Gs3h8dVmo1krlUkU01PdtHyhkAPSf9Q9rhK33"
        ),
    ),
}


def _flat(jpeg: bytes) -> bytes:
    at = jpeg.index(b"\xff\xc0") + 5
    return jpeg[:at] + bytes(2) + jpeg[at + 2 :]


def _pasted(text: str) -> bytes:
    """What a search found, compressed."""
    return zlib.decompress(base64.b64decode(text))
