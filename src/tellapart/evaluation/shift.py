"""Validation images and others -> Shift: whether they differ, in what, and the accuracy to expect without labels.

Whether: a classifier is taught to tell the two apart, and how well it does on held-out ones is the measure (a
classifier two-sample test: Lopez-Paz and Oquab, ICLR 2017). What: the traits whose means moved. The accuracy: that on
the validation images, less what the mean chance that a prediction is right, given how sure it is and how far from the
classes, falls, as learned from validation images, plain and corrupted (after Deng and Zheng, CVPR 2021). Reads: arrays,
and what a run keeps of them. NumPy in, plain values out; no Keras.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tellapart.data.looks import LOOKS
from tellapart.errors import RunError
from tellapart.evaluation.intervals import Estimate, auc_estimate
from tellapart.evaluation.logistic import Problem
from tellapart.evaluation.metrics import Floats, area_under_curve
from tellapart.evaluation.selective_prediction import Thresholds
from tellapart.runs.run import RunFolder
from tellapart.words import listed, percent

TRAITS = (*LOOKS, "size", "distance", "confidence")
"""The columns of `traits_of`, in order."""

FEWEST = 50
"""Images: fewer tell too little of where they come from."""
MOST = 300
"""Images that are looked at, of either side: more hardly narrow the interval."""

_DIFFERENT = 0.6
"""Least AUC, at the lower end of its interval, of images that differ."""
_MOVED = 0.5
"""Least move of a trait's mean, in spreads of the validation images, that is told."""
_TOLD = 3
_BROKEN = 0.02
"""How far below the target the accuracy of sure predictions is expected where they are withheld."""
_FOLDS = 5
_FARTHEST = 6.0
_CERTAIN = 1e-6
_STRENGTH = 1.0
_APART = 0.1
_RIGHT_BY = ("confidence", "distance")
"""Traits by which the chance that a prediction is right is learned."""

_WORDS: dict[str, tuple[str, str]] = {
    "brightness": ("darker", "brighter"),
    "contrast": ("lower in contrast", "higher in contrast"),
    "highlights": ("without highlights", "with more highlights"),
    "sharpness": ("blurred", "sharper"),
    "noise": ("smoother", "noisier"),
    "saturation": ("paler", "more colourful"),
    "warmth": ("bluer", "redder"),
    "tint": ("more purple", "greener"),
    "size": ("smaller", "larger"),
    "distance": ("more like the classes", "less like the classes"),
    "confidence": ("harder to classify", "easier to classify"),
}
"""What images are called by a lower and a higher mean of each trait."""


@dataclass(frozen=True, eq=False)
class Reference:
    """What a run keeps of its validation images. traits: (n, len(TRAITS)) of some. weights: of _RIGHT_BY, standardised,
    for the logit of the chance that a prediction is right; intercept: of that. accuracy: on all of them. thresholds: of
    the verdicts."""

    traits: NDArray[np.float32]
    weights: tuple[float, ...]
    intercept: float
    accuracy: float
    thresholds: Thresholds

    def to_dict(self) -> dict[str, Any]:
        """For the calibration in run.json, which has the thresholds beside it, and the traits not."""
        weights = dict(zip(_RIGHT_BY, self.weights, strict=True))
        return {"right_by": weights | {"intercept": self.intercept}, "accuracy": self.accuracy}

    @classmethod
    def of_run(cls, run: RunFolder) -> Reference | None:
        """What a run kept; None of an earlier version. Raises RunError where it is damaged."""
        calibration, traits = run.record.calibration or {}, run.traits
        if "estimate" not in calibration or traits is None:
            return None
        try:
            kept, thresholds = calibration["estimate"], Thresholds.from_dict(calibration["thresholds"])
            if "right_by" not in kept:
                return None
            *weights, intercept = (float(kept["right_by"][name]) for name in (*_RIGHT_BY, "intercept"))
            found = cls(traits, tuple(weights), intercept, float(kept["accuracy"]), thresholds)
        except (LookupError, TypeError, ValueError) as error:
            raise RunError(f"{run.run_file} is damaged: its estimate of the accuracy is none ({error!r}).") from None
        if traits.ndim != 2 or traits.shape[1] != len(TRAITS) or not np.isfinite(traits).all():
            raise RunError(f"{run.traits_file} is damaged: it does not hold {len(TRAITS)} figures for each image.")
        return found

    def standardised(self, traits: NDArray[np.float32]) -> NDArray[np.float64]:
        """In spreads of the validation images from their mean."""
        spread = np.maximum(self.traits.std(axis=0), 1e-2)
        moved = (traits - self.traits.mean(axis=0)) / spread
        return np.asarray(np.clip(moved, -_FARTHEST, _FARTHEST), np.float64)

    def chances(self, traits: NDArray[np.float32]) -> Floats:
        """That the prediction is right of each image, (n,)."""
        logits = _signs(self.standardised(traits)) @ np.array(self.weights) + self.intercept
        return np.asarray(1 / (1 + np.exp(-logits)))

    def expected(self, chances: Floats) -> float:
        """The accuracy to expect where these are the chances: the fall of their mean, from the accuracy."""
        return float(np.clip(self.accuracy + chances.mean() - self.chances(self.traits).mean(), 0, 1))

    def sure(self, traits: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Which of the images have a sure prediction, (n,)."""
        least, unlike = self.thresholds.sure, self.thresholds.unlike
        confident = traits[:, TRAITS.index("confidence")] >= (_odds(np.array(least)) if least <= 1 else np.inf)
        return np.asarray(confident & (traits[:, TRAITS.index("distance")] <= (np.inf if unlike is None else unlike)))


@dataclass(frozen=True)
class Shift:
    """n: images looked at. auc: of telling them from the validation images; 0.5 where they do not differ. differs: in
    words, the most first. expected: accuracy to expect here; usual: on the validation images. sure: accuracy to expect
    of sure predictions, None where none is; target: the one that they promise."""

    n: int
    auc: Estimate
    differs: tuple[str, ...]
    expected: float
    usual: float
    sure: float | None
    target: float

    @property
    def found(self) -> bool:
        """Whether the images differ."""
        return self.auc.low >= _DIFFERENT

    @property
    def withheld(self) -> bool:
        """Whether sure predictions cannot be relied on here."""
        return self.found and self.sure is not None and self.sure < self.target - _BROKEN

    @property
    def sentences(self) -> tuple[str, ...]:
        """In words; the first says whether they differ."""
        figures = f"AUC {self.auc.value:.2f}, 95 % interval {self.auc.low:.2f} to {self.auc.high:.2f}"
        if not self.found:
            return (f"No sign that these images differ from the validation images (told apart with {figures}).",)
        seen = f": they are {listed(self.differs)}" if self.differs else ""
        said = [
            f"These images differ from the validation images (told apart with {figures}){seen}.",
            f"Accuracy to expect here, estimated without labels: {percent(self.expected)}; on the validation images it "
            f"is {percent(self.usual)}.",
        ]
        if self.withheld and self.sure is not None:
            said.append(
                f"Review sure predictions as well: {percent(self.sure)} of them are expected to be right here, not "
                f"{percent(self.target, None)}."
            )
        return tuple(said)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, with what follows from them."""
        given = asdict(self) | {"auc": self.auc.to_dict(), "differs": list(self.differs)}
        return given | {"found": self.found, "sure_withheld": self.withheld}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Shift:
        """What to_dict gave."""
        kept = {name: values[name] for name in ("n", "expected", "usual", "sure", "target")}
        return cls(auc=Estimate.from_dict(values["auc"]), differs=tuple(values["differs"]), **kept)


def some(count: int, most: int = MOST) -> NDArray[np.intp]:
    """Places of at most so many of `count` images, spread evenly."""
    return np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(np.intp))


def traits_of(
    looks: NDArray[np.float32], sides: NDArray[np.integer], confidence: Floats, distances: NDArray[np.floating]
) -> NDArray[np.float32]:
    """(n, len(TRAITS)), of images by what measure_looks gives, their own shorter side in pixels, the probabilities
    (n,) of what is predicted and their distances (n,); one that is not known is 0."""
    parts = [np.log2(np.maximum(sides, 1)), np.nan_to_num(distances), _odds(confidence)]
    return np.concatenate([looks, np.stack(parts, axis=1)], axis=1).astype(np.float32)


def learn_reference(
    plain: NDArray[np.float32], seen: NDArray[np.float32], right: NDArray[np.bool_], accuracy: float, held: Thresholds
) -> Reference:
    """plain: traits of validation images; seen: of these and of corrupted ones, of which `right` tells whether the
    prediction is. accuracy: on all validation images; held: the thresholds."""
    # The weights that say nothing but the share, as where all are right.
    share = (float(right.sum()) + 0.5) / (len(right) + 1)
    found = Reference(plain, (0.0,) * len(_RIGHT_BY), float(_odds(np.array(share))), accuracy, held)
    if right.all() or not right.any():
        return found
    fitted = Problem(_signs(found.standardised(seen)).astype(np.float32), right.astype(np.int64), 2).fit(_STRENGTH)
    return replace(found, weights=tuple(fitted.kernel[:, 0].tolist()), intercept=float(fitted.bias[0]))


def compare(reference: Reference, traits: NDArray[np.float32]) -> Shift | None:
    """traits: of some of the new images. None of fewer than FEWEST on either side."""
    if min(len(traits), len(reference.traits)) < FEWEST:
        return None
    old, new = reference.standardised(reference.traits), reference.standardised(traits)
    chances, sure = reference.chances(traits), reference.sure(traits)
    return Shift(
        n=len(traits),
        auc=_told_apart(old, new),
        differs=_differences(old, new),
        expected=reference.expected(chances),
        usual=reference.accuracy,
        sure=float(chances[sure].mean()) if sure.any() else None,
        target=reference.thresholds.target,
    )


def _signs(standardised: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, len(_RIGHT_BY)), of standardised traits."""
    return standardised[:, [TRAITS.index(name) for name in _RIGHT_BY]] / 3


def _odds(chance: Floats) -> Floats:
    """The logarithm of the odds, of what is neither 0 nor 1."""
    inside = np.clip(chance, _CERTAIN, 1 - _CERTAIN)
    return np.asarray(np.log(inside / (1 - inside)))


def _told_apart(old: NDArray[np.float64], new: NDArray[np.float64]) -> Estimate:
    """The AUC on held-out folds; with squares, so that a wider spread is told as well as another mean."""
    from threadpoolctl import threadpool_limits

    both = np.concatenate([old, new])
    both = np.concatenate([both, np.square(both) / _FARTHEST], axis=1).astype(np.float32)
    counts = np.array([len(old), len(new)])
    is_new = np.repeat([0, 1], counts)
    weights = (len(both) / (2 * counts))[is_new].astype(np.float32)  # so that both sides weigh the same
    # Not by scikit-learn: its import takes a second, ten times as long as all of this.
    generator = np.random.default_rng(0)
    fold = np.concatenate([generator.permutation(count) % _FOLDS for count in counts])
    scores = np.empty(len(both))
    with threadpool_limits(1, "blas"):
        for number in range(_FOLDS):
            seen, held = fold != number, fold == number
            fitted = Problem(both[seen], is_new[seen], 2, weights[seen]).fit(_APART)
            scores[held] = both[held] @ fitted.kernel[:, 0] + fitted.bias[0]
    return auc_estimate(area_under_curve(is_new == 1, scores), len(new), len(old))


def _differences(old: NDArray[np.float64], new: NDArray[np.float64]) -> tuple[str, ...]:
    moved = new.mean(axis=0) - old.mean(axis=0)
    # Those that moved as far, such as to the end at _FARTHEST, are equal: of those the first of TRAITS are told.
    order = np.argsort(-np.abs(moved).round(1), kind="stable")
    chosen = [place for place in order if abs(moved[place]) >= _MOVED][:_TOLD]
    return tuple(_WORDS[TRAITS[place]][int(moved[place] > 0)] for place in chosen)
