"""The overfitting sentence says what a careful person reads from the curves, on clear cases of each kind."""

import numpy as np
import pytest

from tellapart.evaluation.overfitting import kept, learning
from tellapart.runs.history import HistoryRow
from tellapart.runs.record import Stop, StopReason
from tests.values import history_row


def rows(losses: list[float], validation: list[float], accuracy: list[float] | None = None) -> list[HistoryRow]:
    accuracies = accuracy or [1 - loss / 2 for loss in validation]
    return [
        history_row(epoch, loss=loss, val_loss=val, val_accuracy=acc)
        for epoch, (loss, val, acc) in enumerate(zip(losses, validation, accuracies, strict=True), start=1)
    ]


def sentence_of(history: list[HistoryRow], monitor: str = "val_loss") -> str:
    return learning(history, monitor).sentence


FALLING = [0.7 * 0.75**i for i in range(12)]


def test_overfitting_is_named_with_its_first_epoch_and_figures() -> None:
    sentence = sentence_of(rows(FALLING[:8], [0.6, 0.5, 0.42, 0.46, 0.52, 0.6, 0.66, 0.75]))
    assert sentence == (
        "It overfits from epoch 4 on: the validation loss rises from 0.42 to 0.75 while the training loss still falls. "
        "The epoch kept, 3 (lowest validation loss), comes before that."
    )


def test_a_kept_epoch_after_the_turn_is_pointed_out() -> None:
    accuracy = [0.6, 0.7, 0.75, 0.76, 0.76, 0.79, 0.77, 0.77]
    history = rows(FALLING[:8], [0.6, 0.5, 0.42, 0.46, 0.52, 0.6, 0.66, 0.75], accuracy)
    sentence = sentence_of(history, "val_accuracy")
    assert "The epoch kept, 6 (highest validation accuracy), comes after that" in sentence


@pytest.mark.parametrize("seed", range(20))
def test_noise_moves_the_turn_by_little_and_hides_nothing(seed: int) -> None:
    noise = np.random.default_rng(seed).normal(0, 0.01, 12)
    validation = [0.4 + 0.04 * abs(epoch - 4) + n for epoch, n in zip(range(1, 13), noise, strict=True)]
    sentence = sentence_of(rows(FALLING, validation))
    assert any(sentence.startswith(f"It overfits from epoch {epoch} on") for epoch in (4, 5, 6)), sentence


@pytest.mark.parametrize("settle", [0.0, 0.5])
def test_noise_about_a_level_is_hardly_ever_called_overfitting(settle: float) -> None:
    generator = np.random.default_rng(0)
    levels = 0.5 + settle * 0.6 ** np.arange(12)
    sentences = [sentence_of(rows(FALLING, list(levels + generator.normal(0, 0.02, 12)))) for _ in range(300)]
    assert np.mean([not sentence.startswith("It does not overfit") for sentence in sentences]) < 0.05


def test_one_bad_epoch_amid_a_fall_is_not_overfitting() -> None:
    validation = [0.7, 0.6, 0.52, 0.8, 0.45, 0.41, 0.38, 0.35, 0.33, 0.31]
    assert "still learning" in sentence_of(rows(FALLING[:10], validation))


def test_a_bad_last_epoch_alone_is_not_overfitting() -> None:
    validation = [0.7, 0.6, 0.5, 0.45, 0.42, 0.4, 0.4, 0.4, 0.4, 0.46]
    assert sentence_of(rows(FALLING[:10], validation)).startswith("It does not overfit")


def test_falling_to_the_end_is_still_learning() -> None:
    sentence = sentence_of(rows(FALLING, [0.75 * 0.9**i for i in range(12)]))
    assert sentence == (
        "It does not overfit, and was still learning: the validation loss was falling to the last epoch."
    )


def test_a_level_end_is_told_with_the_epoch_it_begins() -> None:
    validation = [0.9, 0.7, 0.55, 0.45, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4]
    assert sentence_of(rows(FALLING[:10], validation)) == (
        "It does not overfit: the validation loss stays level after epoch 6."
    )


@pytest.mark.parametrize("losses", [[0.6, 0.5, 0.42, 0.5, 0.6, 0.7, 0.8, 0.9], [0.3] * 8])
def test_a_rise_without_falling_training_loss_is_not_called_overfitting(losses: list[float]) -> None:
    sentence = sentence_of(rows(losses, [0.6, 0.5, 0.42, 0.5, 0.6, 0.7, 0.8, 0.9]))
    assert sentence.startswith("It grows worse from epoch 4 on, but not by overfitting")


@pytest.mark.parametrize(
    ("epochs", "words"), [(1, "Only one epoch was"), (2, "Only 2 epochs were"), (3, "Only 3 epochs were")]
)
def test_few_epochs_are_too_few_to_tell(epochs: int, words: str) -> None:
    sentence = sentence_of(rows(FALLING[:epochs], [0.4, 0.5, 0.6][:epochs]))
    assert sentence == f"{words} trained: too few to tell whether it overfits."


def test_no_epoch_and_not_a_number_are_told() -> None:
    assert sentence_of([]) == "No epoch was trained."
    assert "not a number" in sentence_of(rows(FALLING[:5], [0.5, 0.4, float("nan"), 0.4, 0.4]))
    assert "not a number" in sentence_of(rows([0.5, float("inf"), 1, 1, 1], [0.5] * 5))


@pytest.mark.parametrize("reason", [StopReason.INTERRUPTED, StopReason.TIME_UP, StopReason.EPOCHS_DONE])
def test_a_head_is_told_as_all_there_is_only_where_fine_tuning_was_stopped(reason: StopReason) -> None:
    head = [history_row(1, phase="head", regularization=9.0)]
    told = kept(head, 1, Stop(reason, "in other words"))
    assert ("as no epoch of fine-tuning was completed" in told) == reason.goes_on
    assert told.endswith("; in other words.")
