"""Networks on a base, built for many tests; to be left as they are."""

from __future__ import annotations

import pytest

from tellapart.models.pretrained import BASES

QUICK = ("efficientnet-lite0", "mobilenet-v2", "resnet-50")
ROWS = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in BASES]


@pytest.fixture(params=ROWS)
def base_name(request: pytest.FixtureRequest) -> str:
    """Every row of BASES in turn."""
    return str(request.param)
