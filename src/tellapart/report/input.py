"""The input of a report. Filled by write."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tellapart.config import Config
from tellapart.data.catalog import Catalog
from tellapart.data.findings import Finding
from tellapart.evaluation.evaluate import Evaluation
from tellapart.evaluation.judgement import Verdict
from tellapart.experiments.timed import Step
from tellapart.runs.history import HistoryRow
from tellapart.runs.predictions import Predictions


@dataclass(frozen=True)
class ReportInput:
    """Plain values that the caller takes from a run.

    best_epoch: the one whose weights were kept. read_thumbnail: path of an image, as in the evaluation, and the
    longest side -> uint8 (height, width, 1 or 3); it may raise TellapartError or OSError, and the report then shows the
    error in place of the image. environment, onnx_check: facts by name, shown unchanged. network: the summary of the
    layers. batch: pixels uint8 (n, height, width, 1 or 3) of a training batch, and n labels. predictions: of the images
    of `evaluation`. clean: the evaluation without test images with copies in training. calibration: as in run.json.
    heat: paths and a class name for each -> images with the heat map of that class, None for one that cannot be read or
    whose output is not a number. verdict: of the run. kept: which weights were kept. steps: those
    that a time budget was spent on, by name. name, source, created: of the run; the folder or file of its images; ISO
    8601, UTC. index_there: whether an index of runs lies in the folder above. link: path of an image -> where it can be
    opened, or "".
    """

    title: str
    command: str
    config: Config
    catalog: Catalog
    history: Sequence[HistoryRow]
    best_epoch: int
    evaluation: Evaluation
    read_thumbnail: Callable[[str, int], NDArray[np.uint8]]
    environment: Mapping[str, Any]
    findings: Sequence[Finding]
    network: str
    onnx_check: Mapping[str, Any]
    verdict: Verdict
    kept: str
    notes: Sequence[str] = ()
    batch: tuple[NDArray[np.uint8], Sequence[str]] | None = None
    predictions: Predictions | None = None
    clean: Evaluation | None = None
    calibration: Mapping[str, Any] | None = None
    steps: Mapping[str, Step] | None = None
    heat: Callable[[Sequence[str], Sequence[str]], Sequence[NDArray[np.uint8] | None]] | None = None
    name: str = ""
    source: str = ""
    created: str = ""
    index_there: bool = False
    link: Callable[[str], str] = lambda path: ""  # noqa: ARG005 - none
