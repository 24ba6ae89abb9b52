"""The public classes of catalogs, evaluations and rows of runs: with a DataFrame, a chart and a notebook display.

Earlier rooms work with plain values; charts are drawn by report, and only on request.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from tellapart.data.catalog import COLUMNS
from tellapart.data.catalog import Catalog as PlainCatalog
from tellapart.dataframes import frame
from tellapart.errors import ConfigError, TellapartError
from tellapart.evaluation.evaluate import Evaluation as PlainEvaluation
from tellapart.evaluation.intervals import Estimate
from tellapart.runs.summary import RunSummary

if TYPE_CHECKING:
    import pandas

    from tellapart.svg import Drawing


class Catalog(PlainCatalog):
    """Every image with its label and split, including broken ones (they have an error and belong to no split).

    `layout` describes how the source was understood. A notebook shows the counts, the findings and a few images.

    >>> catalog = ta.read("photos/")
    >>> catalog.counts()["test"]
    {'Abyssinian': 6, 'Bengal': 6, 'american_bulldog': 6}
    >>> catalog.to_frame().groupby("split").size()["test"]
    np.int64(18)
    """

    def to_frame(self) -> pandas.DataFrame:
        """A DataFrame with a row per image: the columns of a run's catalog.csv. Raises MissingExtraError without
        pandas."""
        return frame(([getattr(image, name) for name in COLUMNS] for image in self.images), COLUMNS)

    def to_croissant(self) -> dict[str, Any]:
        """Its description as Croissant (JSON-LD, MLCommons): every image's path, label and split, as JSON values.

        >>> ta.read("photos/").to_croissant()["name"]
        'photos'
        """
        from tellapart.data.croissant import croissant, dataset_name

        return croissant(self, dataset_name(self))

    def plot(self) -> Drawing:
        """A bar per class: the number of usable images in each split."""
        from tellapart.report.drawing import counts_drawing

        return counts_drawing(self.counts())

    def _repr_html_(self) -> str:
        from tellapart.report.card import catalog_card

        return shown(lambda: catalog_card(self), "Catalog")


class Evaluation(PlainEvaluation):
    """The result of a network on one split. Compare two by `to_dict()`.

    n: images. level: confidence level of the intervals. metrics: by name, those that are defined here. per_class: in
    class order. confusion: shape (k, k), rows are the truth. mistakes: the most confident first. calibration: whether
    the probabilities are reliable. verdicts: by name, empty if there are none. notes: what is not defined here and why.
    verdict: whether to use the run, and what next; None if it is not judged. A notebook shows the verdict, the metrics
    and the confusion matrix.

    >>> evaluation = ta.evaluate("runs/pets", split="validation")
    >>> evaluation.n, [one.label for one in evaluation.per_class]
    (15, ['Abyssinian', 'Bengal', 'american_bulldog'])
    >>> evaluation.to_frame()["recall_low"].between(0, 1).all()
    np.True_
    """

    def to_frame(self) -> pandas.DataFrame:
        """A DataFrame with a row per class: label, support, and precision, recall and f1, of several labels also
        average_precision, with their intervals; nan if undefined. Raises MissingExtraError without pandas."""
        names = ("precision", "recall", "f1", *(["average_precision"] if self.several else []))
        columns = ["label", "support", *(f"{name}{end}" for name in names for end in ("", "_low", "_high"))]
        rows = ([row.label, row.support, *_figures(getattr(row, name) for name in names)] for row in self.per_class)
        return frame(rows, columns)

    def plot(self) -> Drawing:
        """The confusion matrix: rows are true classes, columns predicted ones. Raises ConfigError where images have
        several labels."""
        from tellapart.report.drawing import confusion_drawing

        if self.several:
            raise ConfigError(
                "A confusion matrix is for images with one label each. Of several labels, `per_class` has the figures, "
                "and `confusion` a table of 2 x 2 for each."
            )
        return confusion_drawing(self.confusion, [row.label for row in self.per_class])

    def _repr_html_(self) -> str:
        from tellapart.report.card import evaluation_card

        return shown(lambda: evaluation_card(self), "Evaluation")


class RunList(list[RunSummary]):
    """A list of rows, one per run."""

    def to_frame(self) -> pandas.DataFrame:
        """A DataFrame with a row per run: the fields of a row, with the accuracy as value, low and high. Raises
        MissingExtraError without pandas."""
        names = [field.name for field in fields(RunSummary) if field.name != "accuracy"]
        ends = ("value", "low", "high")
        rows = (
            [*(getattr(row, name) for name in names), *((row.accuracy or {}).get(end) for end in ends)] for row in self
        )
        return frame(rows, [*names, "accuracy", "accuracy_low", "accuracy_high"])


def catalog_of_plain(found: PlainCatalog) -> Catalog:
    return Catalog(**{field.name: getattr(found, field.name) for field in fields(found)})


def evaluation_of_plain(found: PlainEvaluation) -> Evaluation:
    return Evaluation(**{field.name: getattr(found, field.name) for field in fields(found)})


def shown(draw: Callable[[], str], title: str) -> str:
    """The HTML; or the error in its place, as a notebook would show a traceback."""
    from tellapart.report.card import problem_card

    try:
        return draw()
    except (TellapartError, LookupError, TypeError, ValueError, AttributeError, ArithmeticError, OSError) as error:
        return problem_card(title, str(error) or type(error).__name__)


def _figures(estimates: Iterable[Estimate | None]) -> list[Any]:
    return [getattr(each, end, None) for each in estimates for end in ("value", "low", "high")]
