"""Catalog -> Croissant, the JSON-LD description of a data set that Hugging Face and Google Dataset Search read.

It describes labels and splits, image by image; the images themselves stay where they are.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tellapart.data.catalog import SPLITS, Catalog

_CONTEXT = {
    "@language": "en", "@vocab": "https://schema.org/", "citeAs": "cr:citeAs", "column": "cr:column",
    "conformsTo": "dct:conformsTo", "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"}, "equivalentProperty": "cr:equivalentProperty",
    "samplingRate": "cr:samplingRate",
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"}, "dct": "http://purl.org/dc/terms/",
    "examples": {"@id": "cr:examples", "@type": "@json"}, "extract": "cr:extract", "field": "cr:field",
    "fileObject": "cr:fileObject", "fileProperty": "cr:fileProperty", "fileSet": "cr:fileSet", "format": "cr:format",
    "includes": "cr:includes", "isLiveDataset": "cr:isLiveDataset", "jsonPath": "cr:jsonPath", "key": "cr:key",
    "md5": "cr:md5", "parentField": "cr:parentField", "path": "cr:path", "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet", "references": "cr:references", "regex": "cr:regex", "repeated": "cr:repeated",
    "replace": "cr:replace", "sc": "https://schema.org/", "separator": "cr:separator", "source": "cr:source",
    "subField": "cr:subField", "transform": "cr:transform",
}  # fmt: skip


def croissant(catalog: Catalog, name: str) -> dict[str, Any]:
    """The description, as JSON values. name: of the data set. Images that cannot be read are left out."""
    images = [image for image in catalog.images if not image.error]
    rows = [{"images/path": image.path, "images/label": image.label, "images/split": image.split} for image in images]
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": name,
        "description": f"{len(images):,} labelled images of {len(catalog.task.classes)} classes ({catalog.layout}).",
        "version": "1.0.0",
        "recordSet": [
            _enumeration("labels", catalog.task.classes, "sc:Text"),
            _enumeration("splits", SPLITS, "cr:Split"),
            {
                "@type": "cr:RecordSet",
                "@id": "images",
                "name": "images",
                "description": "Every image with its label and split.",
                "key": {"@id": "images/path"},
                "field": [
                    _field("images", "path", "Path of the file, relative to the folder."),
                    _field("images", "label", "Its class.", references="labels/name"),
                    _field("images", "split", "train, validation or test.", references="splits/name"),
                ],
                "data": rows,
            },
        ],
    }


def _enumeration(name: str, values: Any, kind: str) -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "dataType": ["sc:Enumeration", *([kind] if kind == "cr:Split" else [])],
        "key": {"@id": f"{name}/name"},
        "field": [_field(name, "name", f"One of the {name}.")],
        "data": [{f"{name}/name": value} for value in values],
    }


def _field(owner: str, name: str, said: str, references: str = "") -> dict[str, Any]:
    more = {"references": {"field": {"@id": references}}} if references else {}
    return {
        "@type": "cr:Field",
        "@id": f"{owner}/{name}",
        "name": name,
        "description": said,
        "dataType": "sc:Text",
        **more,
    }


def dataset_name(catalog: Catalog) -> str:
    """The name of its folder."""
    return Path(catalog.root).resolve().name or "images"
