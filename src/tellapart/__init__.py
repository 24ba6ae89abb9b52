"""tellapart: from a folder of labelled pictures to a classifier that a person can trust and ship.

What stands in __all__ is public; it is loaded when first used, so that `import tellapart` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "Catalog": "tellapart.data.catalog",
    "Config": "tellapart.config",
    "Evaluation": "tellapart.evaluation.evaluate",
    "Explanation": "tellapart.explain.explanation",
    "Finding": "tellapart.data.findings",
    "ImageSpec": "tellapart.task",
    "Prediction": "tellapart.inference.predictor",
    "Predictor": "tellapart.inference.predictor",
    "Run": "tellapart.api",
    "Task": "tellapart.task",
    "TellapartError": "tellapart.errors",
    "check": "tellapart.api",
    "compare": "tellapart.api",
    "evaluate": "tellapart.api",
    "export": "tellapart.api",
    "fetch": "tellapart.api",
    "ladder": "tellapart.ladders",
    "list_runs": "tellapart.api",
    "make_config": "tellapart.api",
    "open_run": "tellapart.api",
    "predict": "tellapart.api",
    "read": "tellapart.api",
    "resume": "tellapart.api",
    "resume_ladder": "tellapart.ladders",
    "resume_tune": "tellapart.tuning",
    "train": "tellapart.api",
    "tune": "tellapart.tuning",
}

__all__ = [
    "__version__",
    *_HOMES,
]

if TYPE_CHECKING:
    from tellapart.api import (
        Run,
        check,
        compare,
        evaluate,
        export,
        fetch,
        list_runs,
        make_config,
        open_run,
        predict,
        read,
        resume,
        train,
    )  # fmt: skip
    from tellapart.config import Config
    from tellapart.data.catalog import Catalog
    from tellapart.data.findings import Finding
    from tellapart.errors import TellapartError
    from tellapart.evaluation.evaluate import Evaluation
    from tellapart.explain.explanation import Explanation
    from tellapart.inference.predictor import Prediction, Predictor
    from tellapart.ladders import ladder, resume_ladder
    from tellapart.task import ImageSpec, Task
    from tellapart.tuning import resume_tune, tune


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'tellapart' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
