"""Address: the URL of an image, fetched when it is read. Imports no network library before."""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_BYTES = 100_000_000
"""Of a response: less than of a local file, since the server decides how much it sends."""
SECONDS = 30.0
"""For the whole request: connecting, following redirects and receiving."""
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


@dataclass(frozen=True)
class Address:
    """Where an image is, of the form https://HOST/PATH or http://HOST/PATH."""

    url: str

    def read(self, max_bytes: int = MAX_BYTES, seconds: float = SECONDS) -> bytes:
        """The bytes of the response. Raises ImageError as `image_url.fetch` does."""
        from tellapart.data.image_url import fetch

        return fetch(self.url, min(max_bytes, MAX_BYTES), seconds)


def is_address(name: str) -> bool:
    """Whether a name is an address of a web server.

    >>> is_address("https://example.org/a.jpg"), is_address("file:///etc/passwd"), is_address("a.jpg")
    (True, False, False)
    """
    return name.lower().startswith(("http://", "https://"))


def has_scheme(name: str) -> bool:
    """Whether a name begins like an address of any kind, such as s3://."""
    return _SCHEME.match(name) is not None
