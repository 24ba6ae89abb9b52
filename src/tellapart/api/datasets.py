"""Labelled images -> Catalog, with findings about problems in them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tellapart.api.options import make_config
from tellapart.api.values import Catalog
from tellapart.config import Config
from tellapart.data.cache import DEFAULT_LIMIT, PixelCache
from tellapart.data.catalog import ImageRecord
from tellapart.data.checks import find_all
from tellapart.data.corrections import Correction, corrected, read_corrections
from tellapart.data.deep_checks import Checked
from tellapart.data.fetch import fetch as fetch_data
from tellapart.data.groups import group_findings, grouped, method_of
from tellapart.data.scan import scan
from tellapart.data.sources import read_source, refuse_unused
from tellapart.data.sources.listing import natural_key
from tellapart.data.sources.source import Source
from tellapart.data.splits import assign_splits, drawn_splits
from tellapart.errors import ConfigError, SourceError
from tellapart.parallel import without_collecting
from tellapart.progress import BY_HAND, SILENT, Progress
from tellapart.task import Task, labels_of


def fetch(
    name: str,
    *,
    sha256: str | None = None,
    out: str | os.PathLike[str] | None = None,
    progress: Progress = BY_HAND,
) -> Path:
    """Download labelled images once: a collection, a URL, hf://USER/NAME, kaggle:NAME or tfds:NAME -> a path
    for `read`.

    `tellapart fetch` lists the collections. sha256: the expected checksum of the file at a URL. Raises FetchError,
    which tells what to do without a network.

    >>> run = ta.train(ta.fetch("fashion-mnist"), recipe="fashion-conv")  # doctest: +SKIP
    """
    return fetch_data(name, sha256=sha256, out=Path(out) if out is not None else None, progress=progress)


def read(
    data: Any,
    *,
    config: Config | None = None,
    cache: PixelCache | None = None,
    progress: Progress = BY_HAND,
    **options: Any,
) -> Catalog:
    """Labelled images -> Catalog: every image decoded once, split and checked. Files are only read.

    data: a folder, archive, table, shards, idx folder, an address such as s3://BUCKET/FOLDER or hf://USER/NAME, a
    DataFrame, a Dataset or DatasetDict of Hugging Face, or `builtin:pets`. options: fields of config.data, such as
    label_column. Raises SourceError if no layout fits, ConfigError for a wrong option.

    >>> catalog = ta.read("photos/")
    >>> catalog.task.classes, len(catalog.split("test"))
    (('Abyssinian', 'Bengal', 'american_bulldog'), 18)
    >>> print(catalog.findings[0].meaning)
    1 pair looks the same in one split.
    """
    config = make_config(config=config, data=options)
    return catalog_of(source_of(data, config, progress), config, cache, progress)


def check(
    data: Any,
    *,
    deep: bool = False,
    config: Config | None = None,
    cache_limit: int = DEFAULT_LIMIT,
    progress: Progress = BY_HAND,
    **options: Any,
) -> Checked:
    """The catalog and its problems, as `read` finds them; with `deep`, also an analysis of image content: label errors,
    near-duplicates, outliers, dark, blurred and blank images, overlapping classes.

    Deep checks use the features of the bundled backbone, which `train` caches too. Without the extra `check` label
    errors are left out, which is a finding. data, options: as in `read`. cache_limit: bytes of pixels, and of features.

    >>> ta.check("photos/").catalog.broken
    ()
    """
    config = make_config(config=config, data=options)
    source = source_of(data, config, progress)
    drawn = drawn_splits(row.split for row in source.rows)
    if deep and source.several:
        raise ConfigError(
            "check --deep looks for label errors among images with one label each; these have several. Without --deep, "
            "check finds broken and damaged images, copies, leakage and labels with few images."
        )
    if not deep:
        return Checked(catalog_of(source, config, None, progress), drawn=drawn)
    from tellapart.training.deep_check import inspection_spec, look_into

    with PixelCache(inspection_spec(config, source), limit_bytes=cache_limit) as cache:
        catalog = catalog_of(source, config, cache, progress)
        return look_into(catalog, config, cache, drawn=drawn, corrected=_corrections_of(config), progress=progress)


def source_of(data: Any, config: Config, progress: Progress = SILENT) -> Source:
    """The labelled images, with the corrections of the configuration."""
    if config.data.group_by is not None:
        method_of(config.data.group_by)  # errors are reported before any image is read
    source = read_source(data, config.data, progress=progress)
    refuse_unused(source, config.data, data)
    if config.data.corrections is None:
        return source
    return corrected(source, _corrections_of(config), config.data.corrections)


def _corrections_of(config: Config) -> tuple[Correction, ...]:
    return () if config.data.corrections is None else read_corrections(Path(config.data.corrections))


def catalog_of(source: Source, config: Config, cache: PixelCache | None, progress: Progress) -> Catalog:
    images = scan(source, config.data, cache=cache, progress=progress)
    if all(image.error for image in images):
        raise SourceError(
            f"None of the {len(images)} images of {source.root} can be decoded. The first: "
            f"{images[0].path} ({images[0].error})."
        )
    with without_collecting():
        images, told = grouped(images, config.data.group_by)
        split = assign_splits(
            images,
            seed=config.seed,
            test_fraction=config.data.test_fraction,
            validation_fraction=config.data.validation_fraction,
            several=source.several,
        )
        drawn = drawn_splits(row.split for row in source.rows)
        about_groups = group_findings(split, drawn=drawn, asked=config.data.group_by is not None)
        findings = find_all(split, [*source.findings, *told, *about_groups], several=source.several)
    return Catalog(source.root, task_of(images, source.several), split, findings, source.layout)


def task_of(images: Iterable[ImageRecord], several: bool = False) -> Task:
    """The classes in natural order, as people sort names. several: whether an image may have several."""
    names = {name for image in images for name in labels_of(image.label, several)}
    return Task(tuple(sorted(names, key=natural_key)), several)
