"""The table of sources: every layout of labelled images that is read, with an example and which programs write it."""

from __future__ import annotations

import textwrap

from tellapart import words
from tellapart.data.sources.boxes import read_boxes
from tellapart.data.sources.file_names import read_names
from tellapart.data.sources.folders import read_class_folders, read_split_folders
from tellapart.data.sources.idx import read_idx
from tellapart.data.sources.listing import TABLE_SUFFIXES
from tellapart.data.sources.lists import read_list_file, read_lists
from tellapart.data.sources.parquet_shards import read_parquet_file, read_parquet_shards
from tellapart.data.sources.reader import Reader
from tellapart.data.sources.shards import read_tfrecord, read_tfrecords, read_webdataset, read_webdataset_file
from tellapart.data.sources.table import read_table_beside, read_table_file
from tellapart.errors import SourceError
from tellapart.tables import Table

# A folder is offered to them in this order; the first that returns a Source decides.
SOURCES: Table[Reader] = Table(
    "sources",
    "source",
    Reader,
    SourceError,
    (
        Reader(
            "boxes", "images/train/1.jpg  labels/train/1.txt  (or a COCO json)", read_boxes,
            about="Detection as YOLO and COCO write it: refused, or with --crop-boxes each box an image of its class.",
        ),
        Reader(
            "split-folders", "photos/train/cats/1.jpg  photos/test/dogs/2.jpg", read_split_folders,
            about="Class folders inside train, val and test, as YOLO classify and labelling tools write.",
        ),
        Reader(
            "class-folders", "photos/cats/1.jpg  photos/dogs/2.jpg", read_class_folders,
            about="One folder a class, as torchvision's ImageFolder and Keras read.",
        ),
        Reader(
            "parquet", "data/train-00000-of-00004.parquet with images inside", read_parquet_shards,
            read_parquet_file, (".parquet",),
            about="Hugging Face's hub: image as bytes, or as struct{bytes, path}; class names from ClassLabel, "
            "splits from the names of the files.",
        ),
        Reader(
            "webdataset", "shards/train-{000000..000003}.tar with 0001.jpg, 0001.cls", read_webdataset,
            read_webdataset_file, (".tar",),
            about="Not unpacked. The label in .cls, .json or .txt; class names in classnames.txt.",
        ),
        Reader(
            "tfrecord", "flowers-train.tfrecord-00000-of-00002", read_tfrecords,
            read_tfrecord, (".tfrecord", ".tfrecords"),
            about="TensorFlow Datasets and TF-Slim: image/encoded or image, image/class/text or label; class names in "
            "label.labels.txt or labels.txt.",
        ),
        Reader(
            "table", "photos/labels.csv with columns path,label beside the images", read_table_beside,
            read_table_file, tuple(f".{suffix}" for suffix in sorted(TABLE_SUFFIXES)),
            about="csv, tsv, JSON Lines, Excel or parquet: Hugging Face imagefolder (metadata.csv or metadata.jsonl, "
            "also one in each split folder), Kaggle (one column a class, ids without suffix, is_valid, folds), "
            "spreadsheets; several labels an image as cells a|b, or as several 1s in a row.",
        ),
        Reader(
            "lists", "photos/train.txt with lines cats/1.jpg 0  (names: classes.txt)", read_lists,
            read_list_file, (".txt",),
            about="Text files with lines `path label`, one file a split; numbers are lines of classes.txt.",
        ),
        Reader(
            "file-names", "photos/cat.0.jpg  photos/dog.0.jpg  (or in train/, test/)", read_names,
            about="The class and a number in each file name; --label-pattern describes others.",
        ),
        Reader(
            "idx-files", "mnist/train-images-idx3-ubyte.gz  (and labels; t10k: test)", read_idx,
            about="MNIST and Fashion-MNIST, plain or .gz; class names in labels.txt.",
        ),
    ),
)  # fmt: skip
_EXCEL = "an old Excel or an OpenDocument table, which is not supported. Save it as xlsx or csv, and name that."
_LIST = "JSON, which is not supported. Write a csv with the columns path and label, and name that."
_NUMBERS = "an array without class names. Read it in Python, and save its images into one folder per class."
UNREAD = {
    **dict.fromkeys((".xls", ".xlsb", ".ods"), _EXCEL),
    **dict.fromkeys((".json",), _LIST),
    **dict.fromkeys((".npy", ".npz", ".h5", ".hdf5", ".pkl", ".pickle", ".mat"), _NUMBERS),
    ".rar": "a RAR archive, which is not supported. Unpack it, and name the folder, or pack it as a zip.",
    ".7z": "a 7-Zip archive, which is not supported. Unpack it, and name the folder, or pack it as a zip.",
    ".onnx": "a network. Name the images to learn from; predict and evaluate take a network first.",
    ".keras": "a network. Name the images to learn from; predict and evaluate take a run first.",
}
"""What people name as data by mistake, by suffix: what it is and what to do."""


def layouts(*, about: bool = False) -> str:
    """The supported layouts of labelled images, in words; loads plug-ins, and reports broken ones. about: also what is
    read of each.

    >>> layouts().partition(",")[0]
    'Ten layouts work'
    """
    readers, broken = SOURCES.load_all()
    folders = [reader for reader in readers if reader.example and reader.read is not None]
    files = [reader for reader in readers if reader.example and reader.read is None]
    lines = [f"{words.spelled(len(folders)).capitalize()} layouts work, as a folder, a zip or a tar:"]
    lines += [line for reader in folders for line in _shown(reader, about)]
    if files:
        lines += ["As a file:", *(line for reader in files for line in _shown(reader, about))]
    return "\n".join((*lines, *broken.values()))


def _shown(reader: Reader, about: bool) -> list[str]:
    wrapped = (
        textwrap.wrap(reader.about, 80, break_on_hyphens=False, initial_indent=" " * 17, subsequent_indent=" " * 17)
        if about
        else []
    )
    return [f"  {reader.name:<14} {reader.example}", *wrapped]
