"""The folder where archives are unpacked."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def cache(own_cache: Path) -> Path:
    """The folder of unpacked archives."""
    return own_cache / "archives"
