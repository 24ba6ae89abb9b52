"""A run that was optimized -> its fast Predictor; what run.json says of it, in words. Imports no onnx."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tellapart.config import DataConfig
from tellapart.errors import RunError, require_extra
from tellapart.inference.predictor import BFLOAT16, Predictor
from tellapart.runs.run import RunFolder

FLOAT32, INT8 = "float32", "int8"


def open_fast(run: RunFolder, threads: int | None, bounds: DataConfig) -> Predictor | None:
    """The network in the arithmetic that inference.optimize chose; None if the run has none but float32.

    Raises RunError if the record of it is damaged or the file is missing, MissingExtraError for bfloat16 without
    OpenVINO.
    """
    found = run.record.fast
    arithmetic = FLOAT32 if found is None else found.get("arithmetic")
    if arithmetic == FLOAT32:
        return None
    if arithmetic not in (INT8, BFLOAT16):
        raise RunError(f"{run.run_file} is damaged: it names the arithmetic {arithmetic!r}. Use --exact.")
    if arithmetic == BFLOAT16:
        require_extra("The run predicts in bfloat16 (as trained with --exact), which", "openvino", "openvino")
    if not run.fast_file.exists():
        raise RunError(f"{run.path} has no {run.fast_file.name}. Make it with tellapart optimize, or use --exact.")
    file = run.fast_file
    return Predictor(file, threads=threads, device="cpu", bounds=bounds, arithmetic=arithmetic)


def told(predictor: Predictor) -> str:
    """What who predicts is told; empty for the network as trained."""
    if predictor.arithmetic == FLOAT32:
        return ""
    return f"predicted in {predictor.arithmetic}, as `tellapart optimize` chose; as trained: --exact"


def cost_in_words(found: Mapping[str, Any]) -> str:
    """What the chosen arithmetic gains and costs. found: RunRecord.fast.

    Raises LookupError, TypeError or ValueError for what inference.optimize did not write.
    """
    trials = {trial["arithmetic"]: trial for trial in found["trials"]}
    before, after = trials[FLOAT32], trials[found["arithmetic"]]
    if after is before:
        return f"Nothing faster than float32 kept the labels on this processor ({found['processor']})."
    times = before["milliseconds"] / after["milliseconds"]
    return (
        f"In {found['arithmetic']}, the network takes {after['milliseconds']:.1f} ms of processor time an image "
        f"instead of {before['milliseconds']:.1f}: {times:.1f} times as fast ({found['processor']}). "
        f"{after['kept']} of {found['images']} validation images keep their label. Of the {found['rest']} that chose "
        f"nothing, {after['right']} are right and {after['sure']} sure; in float32 {before['right']} and "
        f"{before['sure']}."
    )
