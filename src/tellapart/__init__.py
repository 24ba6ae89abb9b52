"""tellapart: from a folder of labelled images to a classifier you can trust and ship.

The names in __all__ are public; each is loaded when first used, so that `import tellapart` is fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

_HOMES = {
    "Catalog": "tellapart.api.values",
    "Config": "tellapart.config",
    "Doubts": "tellapart.api.doubts",
    "Evaluation": "tellapart.api.values",
    "Explanation": "tellapart.explain.explanation",
    "Features": "tellapart.api.features",
    "Finding": "tellapart.data.findings",
    "ImageClassifier": "tellapart.api.estimators",
    "ImageFeatures": "tellapart.api.estimators",
    "ImageSpec": "tellapart.task",
    "Labels": "tellapart.training.labelling",
    "Lines": "tellapart.progress",
    "Phase": "tellapart.progress",
    "Prediction": "tellapart.inference.prediction",
    "PredictionList": "tellapart.inference.prediction",
    "Predictor": "tellapart.inference.predictor",
    "Progress": "tellapart.progress",
    "Run": "tellapart.api.runs",
    "SILENT": "tellapart.progress",
    "Task": "tellapart.task",
    "TellapartError": "tellapart.errors",
    "all_devices": "tellapart.api.devices",
    "check": "tellapart.api.datasets",
    "compare": "tellapart.api.runs",
    "doubts": "tellapart.api.doubts",
    "evaluate": "tellapart.api.evaluation",
    "export": "tellapart.api.runs",
    "features": "tellapart.api.features",
    "fetch": "tellapart.api.datasets",
    "labels": "tellapart.api.labels",
    "ladder": "tellapart.api.study",
    "list_runs": "tellapart.api.runs",
    "make_config": "tellapart.api.options",
    "open_run": "tellapart.api.runs",
    "optimize": "tellapart.api.runs",
    "predict": "tellapart.api.runs",
    "pull": "tellapart.api.hub",
    "push": "tellapart.api.hub",
    "read": "tellapart.api.datasets",
    "resume": "tellapart.api.training",
    "resume_ladder": "tellapart.api.study",
    "resume_tune": "tellapart.api.study",
    "summarize_runs": "tellapart.api.runs",
    "train": "tellapart.api.training",
    "train_folds": "tellapart.api.folds",
    "tune": "tellapart.api.study",
    "write_comparison": "tellapart.api.runs",
    "write_index": "tellapart.api.runs",
    "write_report": "tellapart.api.runs",
}

__all__ = [
    "SILENT",
    "Catalog",
    "Config",
    "Doubts",
    "Evaluation",
    "Explanation",
    "Features",
    "Finding",
    "ImageClassifier",
    "ImageFeatures",
    "ImageSpec",
    "Labels",
    "Lines",
    "Phase",
    "Prediction",
    "PredictionList",
    "Predictor",
    "Progress",
    "Run",
    "Task",
    "TellapartError",
    "__version__",
    "all_devices",
    "check",
    "compare",
    "doubts",
    "evaluate",
    "export",
    "features",
    "fetch",
    "labels",
    "ladder",
    "list_runs",
    "make_config",
    "open_run",
    "optimize",
    "predict",
    "pull",
    "push",
    "read",
    "resume",
    "resume_ladder",
    "resume_tune",
    "summarize_runs",
    "train",
    "train_folds",
    "tune",
    "write_comparison",
    "write_index",
    "write_report",
]  # fmt: skip

if TYPE_CHECKING:
    from tellapart.api.datasets import check, fetch, read
    from tellapart.api.devices import all_devices
    from tellapart.api.doubts import Doubts, doubts
    from tellapart.api.estimators import ImageClassifier, ImageFeatures
    from tellapart.api.evaluation import evaluate
    from tellapart.api.features import Features, features
    from tellapart.api.folds import train_folds
    from tellapart.api.hub import pull, push
    from tellapart.api.labels import labels
    from tellapart.api.options import make_config
    from tellapart.api.runs import (
        Run,
        compare,
        export,
        list_runs,
        open_run,
        optimize,
        predict,
        summarize_runs,
        write_comparison,
        write_index,
        write_report,
    )
    from tellapart.api.study import ladder, resume_ladder, resume_tune, tune
    from tellapart.api.training import resume, train
    from tellapart.api.values import Catalog, Evaluation
    from tellapart.config import Config
    from tellapart.data.findings import Finding
    from tellapart.errors import TellapartError
    from tellapart.explain.explanation import Explanation
    from tellapart.inference.prediction import Prediction, PredictionList
    from tellapart.inference.predictor import Predictor
    from tellapart.progress import SILENT, Lines, Phase, Progress
    from tellapart.task import ImageSpec, Task
    from tellapart.training.labelling import Labels


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'tellapart' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
