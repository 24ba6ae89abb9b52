"""What hypothesis draws names from: such as people, cameras and other systems give to files and classes."""

from __future__ import annotations

import os

from hypothesis import strategies as st

from tellapart.data.sources.listing import ignored

_KNOWN_TO_HURT = (
    " lead", "trail ", "a b", "a,b", "a;b", 'a "b"', "it's", "#", "%00", "-rf", "=1+1", "~", "$HOME", "a\\b", "C:",
    "\u00e9", "e\u0301", "\u732b", "\U0001f408", "1", "1.0", "true", "nan", "None", "train", "Test", "validation",
    "CON", "x.jpg", "x.zip", "labels.csv",
)  # fmt: skip
_NOT_PRINTABLE = (
    "line\nbreak", "carriage\rreturn", "tab\there", "next\x85line", "line\u2028separator", "unit\x1fseparator",
    "\u200f\u05d0", "caf\udce9",
)  # fmt: skip


def _text(excluded: str = "", *, least: int = 0, most: int = 20) -> st.SearchStrategy[str]:
    return st.text(
        st.characters(exclude_categories=("Cs",), exclude_characters=excluded), min_size=least, max_size=most
    )


def _as_name(name: str) -> str:
    """A name that a disk takes, and a walk does not pass over as a system's own."""
    return f"_{name}" if not name or ignored(name) else name


texts = _text()
"""Any text that UTF-8 can hold."""

words = _text("\0")
"""The same without the byte that ends a text in C."""

names = (
    st.sampled_from([*_KNOWN_TO_HURT, *_NOT_PRINTABLE])
    | _text("/\0", least=1, most=12)
    | st.binary(min_size=1, max_size=8).map(lambda some: os.fsdecode(some.translate(None, b"/\0")))
).map(_as_name)
"""Names of files and folders, some of bytes that are no UTF-8."""

members = (st.sampled_from(_KNOWN_TO_HURT) | st.text("aé猫 .-~%", min_size=1, max_size=8)).map(_as_name)
"""Names in an archive."""

labels = (st.sampled_from(_KNOWN_TO_HURT) | _text("\0", least=1)).map(lambda label: label if label.strip() else "blank")
"""What a table may hold as a class: something beside space."""
