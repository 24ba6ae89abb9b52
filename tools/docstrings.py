"""Docstrings as plain text -> Markdown: examples become code blocks. An extension of Griffe, used by mkdocs.yml."""

from __future__ import annotations

import re
from typing import Any

import griffe

_EXAMPLES = re.compile(r"^>>> .*?(?=\n\n|\Z)", re.MULTILINE | re.DOTALL)


class Examples(griffe.Extension):
    """Fences the lines from each `>>>` to the next empty line."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = _EXAMPLES.sub(lambda found: f"```python\n{found[0]}\n```", obj.docstring.value)
