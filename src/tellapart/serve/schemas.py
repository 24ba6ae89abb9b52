"""The response schemas, as described at /openapi.json, and how responses are built."""

from __future__ import annotations

import base64
from typing import Any

from pydantic import BaseModel, Field

from tellapart.inference.prediction import Prediction
from tellapart.serve.bodies import JsonImage
from tellapart.serve.heat import Heat
from tellapart.serve.limits import Bounds

DIGITS = 6
"""Of where heat lies."""


class HeatMap(BaseModel):
    """What supports the label, as an image to lay over the one that was sent."""

    png: str = Field(description="8-bit grey PNG in base64; 255 is the strongest evidence for the label.")
    left: float = Field(description="Position on the upright image, as fractions of its sides.")
    top: float
    right: float
    bottom: float


class PredictedImage(BaseModel):
    """The run's prediction for one image. If it could not be read: only `name` and `error`."""

    name: str = Field(description="File name as sent.")
    verdict: str | None = Field(None, description="sure, unsure, or unlike (out-of-distribution); none: unknown.")
    label: str = Field("", description="The most probable class; for an image that is unlike, only the nearest.")
    labels: list[str] | None = Field(
        None, description="Of a run with several labels an image: those predicted; `label` has them as a|b."
    )
    probability: float = Field(
        0.0, description="Calibrated probability of the label, 0 to 1; of several labels, that all are right."
    )
    probabilities: dict[str, float] = Field(
        {}, description="Probability by class name; they sum to 1, unless an image has several labels."
    )
    distance: float | None = Field(None, description="Distance from the nearest class; none: unknown.")
    warning: str | None = Field(None, description="Damage found in an image that could still be read.")
    heat: HeatMap | None = Field(None, description="With explain=1.")
    error: str = Field("", description="Why the image could not be read.")


class PredictionsReply(BaseModel):
    """A response: a row for each image, in the order they were sent."""

    run: str
    predictions: list[PredictedImage]


class ServedRun(BaseModel):
    """A run that is served."""

    name: str
    kind: str = Field(description="binary, multiclass, or multilabel: several labels an image, or none.")
    classes: list[str]
    height: int
    width: int
    heat: str = Field(description="How heat maps are computed: class activation (fast) or occlusion (slow).")


class Served(BaseModel):
    """The runs, the first of which answers requests that name none, and the limits of a request."""

    runs: list[ServedRun]
    files: int = Field(description="Images per request.")
    bytes: int = Field(description="Bytes per request.")
    pixels: int = Field(description="Pixels per image.")
    feedback: bool = Field(description="Whether /v1/feedback keeps what people say of the answers.")


class FeedbackReply(BaseModel):
    """What was kept."""

    run: str
    said: str = Field(description="right, other or none.")
    label: str = Field(description="The class that is said; empty for none.")


class Problem(BaseModel):
    """Why a request failed: what was given, what was expected, what to do."""

    error: str


def row(prediction: Prediction, heat: Heat | None) -> dict[str, Any]:
    """A prediction as it is sent: its JSON form, with a name in place of a path."""
    values = prediction.to_dict()
    found: dict[str, Any] = {"name": values.pop("path"), **values}
    if heat is not None:
        places = {side: round(getattr(heat, side), DIGITS) for side in ("left", "top", "right", "bottom")}
        found["heat"] = {"png": base64.b64encode(heat.png).decode("ascii"), **places}
    return found


def body_description(bounds: Bounds) -> dict[str, Any]:
    """The three kinds of body that hold images, for the OpenAPI description."""
    binary = {"schema": {"type": "string", "format": "binary"}}
    files = {"type": "array", "items": binary["schema"], "maxItems": bounds.files}
    images = {"type": "array", "items": JsonImage.model_json_schema(), "maxItems": bounds.files}
    return {
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {"schema": {"type": "object", "properties": {"images": files}}},
                "image/*": binary,
                "application/json": {"schema": {"type": "object", "properties": {"images": images}}},
            },
        }
    }
