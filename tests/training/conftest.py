"""When two runs are equal, for all tests that interrupt and resume one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import tellapart as ta
from tests import same_run


@pytest.fixture(scope="session")
def figures() -> Callable[[ta.Run], list[dict[str, Any]]]:
    return same_run.without_clock


@pytest.fixture(scope="session")
def assert_same_run() -> Callable[[ta.Run, ta.Run], None]:
    return same_run.assert_same_run
