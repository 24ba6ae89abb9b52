"""Metrics of a run -> the next step that can help most; CANDIDATES is the table of all.

Errors are attributed to causes as in A. Ng, Machine Learning Yearning (2018), chapters 20 to 41: errors on training
images (bias), the additional errors on new images of the same kind (variance), the additional errors on the test images
(data mismatch), and label errors. Each part is the most that fixing its cause can gain, and has a step. An interval is
treated likewise, by how much lower the true accuracy may be. A step without which the accuracy is meaningless has a
gain of 1.
"""

from __future__ import annotations

from collections.abc import Callable

from tellapart.evaluation.evidence import Evidence
from tellapart.evaluation.judgement import Step
from tellapart.words import counted, percent, points


def next_step(found: Evidence) -> Step:
    """The candidate with the largest gain; of equal ones the first of the table, which costs less."""
    steps = [step for candidate in CANDIDATES if (step := candidate(found)) is not None]
    return max(steps, key=lambda step: step.gain)


def resume(found: Evidence) -> Step | None:
    """An unfinished training cannot be assessed."""
    if not found.interrupted:
        return None
    return Step("resume", "Resume the training: tellapart train --resume RUN.", 1.0, "It was stopped early.")


def copies(found: Evidence) -> Step | None:
    """Without them the accuracy is known; before, it is not."""
    if found.flattered <= 0:
        return None
    reason = f"Copies inflate the accuracy by {points(found.flattered)}."
    text = "Evaluate on images that were not used in training."
    if found.own:
        text = "Remove duplicates between training and test: tellapart check DATA --deep --write proposes it."
    return Step("drop-copies", text, 1.0, reason)


def regroup(found: Evidence) -> Step | None:
    """The test images show other people, places or days than the validation images, which selected the thresholds."""
    if found.shift is None or found.shift.high >= 0:
        return None
    text = (
        f"Train and validate on images like those of the {found.split} split; if they show other people, places "
        "or sessions, keep each of these in one split (--group-by, or a column `group` of a table)."
    )
    lost = -found.shift.value
    return Step("regroup", text, lost, f"From validation to {found.split} it loses {points(lost)}.")


def settle(found: Evidence) -> Step | None:
    """Labels that the network contradicts with more than half of the probability, weighted by the margin."""
    if not found.suspects:
        return None
    gain = sum(max(0.0, 2 * wanted - 1) for wanted in found.suspects) / found.evaluation.n
    many = len(found.suspects) > 1
    text = (
        f"Review {counted(len(found.suspects), 'label')} that {'look' if many else 'looks'} wrong (Likely label errors "
        "in the report; tellapart check DATA --deep finds those of training)."
    )
    return Step("settle-labels", text, gain, f"They can change {points(gain)} of the accuracy.")


def begin_pretrained(found: Evidence) -> Step | None:
    if found.backbone != "none":
        return None
    missed = found.bias + found.variance
    text = "Start from a pretrained backbone: --model auto."
    return Step("pretrained-backbone", text, missed, f"Trained from scratch, it misses {points(missed)}.")


def train_longer(found: Evidence) -> Step | None:
    if found.learning is None or found.learning.state != "learning":
        return None
    return Step("more-epochs", "Train longer: more --epochs.", found.bias, "The validation loss was still falling.")


def fine_tune(found: Evidence) -> Step | None:
    if found.backbone != "frozen":
        return None
    text = "Fine-tune the top of the backbone: --fine-tune 2."
    return Step("fine-tune", text, found.bias, _unlearned(found))


def larger(found: Evidence) -> Step | None:
    if found.backbone == "none":
        return None
    text = "Try a larger backbone or larger images: tellapart models, --image-size."
    return Step("larger-backbone", text, found.bias, _unlearned(found))


def more_images(found: Evidence) -> Step | None:
    weakest = found.weakest
    first = f", first of {weakest.label}" if weakest is not None else ""
    reason = f"Its accuracy is {points(found.variance)} higher on training images than on new ones."
    return Step("more-images", f"Train on more images{first}.", found.variance, reason)


def more_test_images(found: Evidence) -> Step | None:
    """Four times as many halve the interval."""
    if found.split != "test" and found.own:
        return Step(
            "test-split", "Keep some images for a test split.", found.vagueness, "These were used for model selection."
        )
    text = "Test on more images: four times as many halve the interval."
    accuracy = found.evaluation.accuracy
    reason = f"The true accuracy may be as low as {percent(accuracy.low)}."
    return Step("more-test-images", text, 1.0 if found.vague else found.vagueness / 2, reason)


def ship(_: Evidence) -> Step | None:
    return Step("use", "Use it: tellapart predict, serve or export.", 0.0, "No step stands out.")


def _unlearned(found: Evidence) -> str:
    return f"It misclassifies {percent(found.bias)} of its own training images."


CANDIDATES: tuple[Callable[[Evidence], Step | None], ...] = (
    resume, copies, regroup, settle, begin_pretrained, train_longer, fine_tune, larger, more_images, more_test_images,
    ship,
)  # fmt: skip
"""The cheap steps first."""
