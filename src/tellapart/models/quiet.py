"""What converters of other libraries print, warn and log -> nothing: they report each step."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout


@contextmanager
def quiet(logger: str | None = None, *, errors: bool = False) -> Iterator[None]:
    """logger: whose messages below an error are left out too; "root": everybody's. errors: standard error as well."""
    with ExitStack() as opened:
        if logger is not None:
            named = logging.getLogger(logger)
            opened.callback(named.setLevel, named.level)
            named.setLevel(logging.ERROR)
        opened.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        opened.enter_context(redirect_stdout(io.StringIO()))
        if errors:
            opened.enter_context(redirect_stderr(io.StringIO()))
        yield
