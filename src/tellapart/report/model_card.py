"""A finished run -> README.md, its model card: front matter that the Hugging Face hub reads, then text for people.

Names of classes and folders are untrusted: they are quoted in the front matter, and escaped in the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from tellapart import __version__
from tellapart.data.catalog import SPLITS, Catalog
from tellapart.evaluation.evaluate import Evaluation
from tellapart.evaluation.evidence import evaluations_of
from tellapart.evaluation.intervals import Estimate
from tellapart.evaluation.judge import verdict_of
from tellapart.evaluation.judgement import Verdict
from tellapart.files import to_json
from tellapart.models.pretrained import PRETRAINED
from tellapart.runs.run import RunFolder
from tellapart.task import Task
from tellapart.words import counted, listed, measured, percent

WRITTEN = "<!-- Written by tellapart. Remove this line to keep what you change below and above. -->"
"""A card with this line is written anew with the report."""

_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>#|~$])")
_MOST_CLASSES = 100
_NAMES = {
    "accuracy": "Accuracy",
    "mean_average_precision": "Mean average precision",
    "micro_f1": "Micro F1",
    "balanced_accuracy": "Balanced accuracy",
    "macro_f1": "Macro F1",
    "log_loss": "Log loss",
}


def model_card(run: RunFolder) -> str:
    """The card as Markdown. Raises RunError for a run without an evaluation."""
    evaluation, _ = evaluations_of(run)
    catalog, verdict = run.catalog, verdict_of(run)
    title = run.config.title or title_of(catalog.task)
    parts = [
        f"# {_plain(title)}",
        WRITTEN,
        _purpose(run, catalog),
        "## Intended use",
        _plain(verdict.conclusion),
        *([_plain(verdict.alone)] if verdict.alone else []),
        "It is for images like those that it was trained on, described below. What it says of other images is not "
        "measured; many of them, not all, get the verdict *unlike*.",
        "## Limits",
        _limits(verdict),
        "## Evaluation",
        _evaluation(evaluation),
        "## Training data",
        _data(run, catalog),
        "## Use",
        _use(run),
        "## Origin",
        _origin(run),
    ]
    return f"---\n{_front_matter(run, evaluation)}---\n\n" + "\n\n".join(parts) + "\n"


def title_of(task: Task) -> str:
    """Of a run without one of its own."""
    return f"{'Finding' if task.several else 'Telling apart'} {listed(task.classes)}"


def write_model_card(run: RunFolder, card: str | None = None) -> bool:
    """Write README.md, unless a person has made it their own. card: if already made. Whether it was written."""
    if run.card_file.exists() and WRITTEN not in run.read_text(run.card_file):
        return False
    run.write_text(run.card_file, card or model_card(run))
    return True


def licence_of(run: RunFolder) -> str:
    """Of the backbone's weights; empty for a network trained from scratch, or with weights of the user's own."""
    config = run.config.model
    row = PRETRAINED.get(config.name)
    return row.licence if row is not None and getattr(config, "weights", "none") in ("auto", "imagenet") else ""


def _front_matter(run: RunFolder, found: Evaluation) -> str:
    """YAML, of which JSON is a part: each value is written as JSON, so that no name can be anything but text."""
    licence = licence_of(run)
    metrics = [
        {
            "type": "f1" if name == "macro_f1" else name,
            "name": f"{_name(name, found)}, {percent(found.level, None)} interval {estimate.low:.4f} to "
            f"{estimate.high:.4f}",
            "value": round(estimate.value, 6),
        }
        for name, estimate in found.metrics.items()
        if name in _NAMES
    ]
    source = run.record.source or "images"
    result = {
        "task": {"type": "image-classification", "name": "Image classification"},
        "dataset": {"type": source, "name": source, "split": found.split},
        "metrics": metrics,
    }
    values: dict[str, Any] = {
        **({"license": licence.lower()} if licence else {}),
        "library_name": "tellapart",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "onnx", "tellapart"],
        "model-index": [{"name": run.path.name, "results": [result]}],
    }
    return "".join(f"{name}: {to_json(value, ascii=True)}\n" for name, value in values.items())


def _purpose(run: RunFolder, catalog: Catalog) -> str:
    classes = catalog.task.classes
    names = ", ".join(_plain(name) for name in classes[:_MOST_CLASSES])
    more = f" and {len(classes) - _MOST_CLASSES:,} more" if len(classes) > _MOST_CLASSES else ""
    spec = run.spec
    each = " of each label, of which an image may have several or none," if catalog.task.several else ""
    return (
        f"An image classifier with {counted(len(classes), 'class', 'classes')}: {names}{more}. It takes images of any "
        f"size, which it scales to {spec.width} x {spec.height} pixels, and gives calibrated probabilities{each} and a "
        "verdict: *sure*, *unsure*, or *unlike* the images that it was trained on."
    )


def _limits(verdict: Verdict) -> str:
    points = [point for point in verdict.points if point.mark != "good"]
    lines = [f"- **{_plain(point.title)}**: {_plain(point.sentence)}" for point in points]
    if verdict.weakest:
        lines.append(f"- {_plain(verdict.weakest)}")
    return "\n".join(lines)


def _evaluation(found: Evaluation) -> str:
    told = f"On {counted(found.n, 'image')} of the {found.split} split, with {percent(found.level, None)} intervals:"
    rows = [(_name(name, found), _figure(name, estimate)) for name, estimate in found.metrics.items() if name in _NAMES]
    more = ("average precision",) if found.several else ()
    classes = [
        (
            _plain(row.label),
            f"{row.support:,}",
            *(_share(value) for value in (row.precision, row.recall, row.average_precision)[: 2 + len(more)]),
        )
        for row in found.per_class[:_MOST_CLASSES]
    ]
    verdicts = [(name, f"{row.n:,}", _share(row.accuracy)) for name, row in found.verdicts.items()]
    parts = [
        told,
        _table(("metric", "value"), rows),
        _table(("class", "images", "precision", "recall", *more), classes),
    ]
    if verdicts:
        parts.append(_table(("verdict", "images", "of these correct"), verdicts))
    return "\n\n".join(parts)


def _name(metric: str, found: Evaluation) -> str:
    return "Exact match" if found.several and metric == "accuracy" else _NAMES[metric]


def _figure(name: str, estimate: Estimate) -> str:
    return (
        f"{estimate.value:.3f} ({estimate.low:.3f} to {estimate.high:.3f})"
        if name == "log_loss"
        else measured(estimate)
    )


def _share(estimate: Estimate | None) -> str:
    return "not defined" if estimate is None else measured(estimate)


def _data(run: RunFolder, catalog: Catalog) -> str:
    counts = catalog.counts()
    rows = [
        (_plain(label), *(f"{counts[split][label]:,}" for split in SPLITS))
        for label in catalog.task.classes[:_MOST_CLASSES]
    ]
    found = [f"- {_plain(finding.meaning)}" for finding in catalog.findings]
    return "\n\n".join(
        [
            f"{counted(len(catalog), 'image')} from {_plain(run.record.source or 'a folder')} "
            f"({_plain(catalog.layout)}). "
            "The images are not part of this repository; their licence is for their owner to state here.",
            _table(("class", *SPLITS), rows),
            *(["What was found in them:\n\n" + "\n".join(found)] if found else []),
        ]
    )


def _use(run: RunFolder) -> str:
    return (
        "```\npip install tellapart\ntellapart predict model.onnx photos/\n```\n\n"
        "`model.onnx` also runs in ONNX Runtime without tellapart: its metadata, under `tellapart`, tell the classes, "
        "the pixels that it takes, and the thresholds of the verdicts. "
        f"Its input is uint8, (n, {run.spec.height}, {run.spec.width}, {run.spec.channels}); scaling is inside."
    )


def _origin(run: RunFolder) -> str:
    record, config = run.record, run.config
    licence = licence_of(run)
    lines = [
        f"- Network: {_plain(config.model.name)}"
        + (f", with weights trained on ImageNet ({licence})" if licence else ""),
        f"- Seed {config.seed}; configuration `{config.digest}`; images, labels and splits `{run.catalog.digest}`",
        f"- model.onnx differs from the trained network by at most {record.onnx_difference:.1e} on "
        f"{counted(record.verified_images, 'image')}",
        f"- Versions: {_plain(', '.join(f'{name} {version}' for name, version in record.versions.items()))}",
        f"- This card: tellapart {__version__}",
    ]
    return "\n".join(lines)


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    names = list(head)
    lines = [names, ["---", *["--:"] * (len(names) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _plain(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    return _MARKDOWN.sub(r"\\\1", " ".join(text.split()))
