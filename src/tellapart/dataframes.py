"""Rows -> a pandas DataFrame, with the extra `tables`; pandas is imported only when needed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from tellapart.errors import MissingExtraError

if TYPE_CHECKING:
    import pandas


def frame(rows: Iterable[Sequence[Any]], columns: Sequence[str]) -> pandas.DataFrame:
    """A row each, in their order. Raises MissingExtraError if pandas is not installed.

    >>> frame([("cats", 3), ("dogs", 2)], ["class", "images"]).shape
    (2, 2)
    """
    try:
        import pandas
    except ModuleNotFoundError as error:
        if error.name != "pandas":
            raise
        raise MissingExtraError("A DataFrame", "tables") from None
    return pandas.DataFrame(list(rows), columns=list(columns))
