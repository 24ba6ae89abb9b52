"""Cats and dogs as Kaggle packs them: a zip in a zip, labels in the file names, some files damaged.

    python examples/cats_dogs_from_zip.py [dogs-vs-cats.zip]

Nothing is unpacked by hand, sorted into folders or deleted: the outer zip is named, the rest is understood. Without an
argument a zip of that form is made from images inside the package: cats of two breeds, dogs of one.
"""

import io
import sys
import tempfile
import zipfile
from pathlib import Path

import tellapart as ta

KINDS = {"Abyssinian": "cat", "Bengal": "cat", "american_bulldog": "dog"}


def made_zip(folder: Path) -> Path:
    """dogs-vs-cats.zip with train.zip with train/cat.0.jpg ...: two of the files are cut off, one is a web page."""
    inner, numbers = io.BytesIO(), {"cat": 0, "dog": 0}
    with zipfile.ZipFile(inner, "w") as archive:
        pets = Path(ta.__file__).parent / "data" / "builtin" / "pets"
        for path in sorted(pets.rglob("*.jpg")):
            kind = KINDS[path.parent.name]
            number = numbers[kind]
            numbers[kind] += 1
            content = path.read_bytes()
            if number == 7:
                content = content[: len(content) // 2]
            archive.writestr(f"train/{kind}.{number}.jpg", content)
        archive.writestr("train/cat.9999.jpg", "<html>not an image</html>")
    outer = folder / "dogs-vs-cats.zip"
    with zipfile.ZipFile(outer, "w") as archive:
        archive.writestr("train.zip", inner.getvalue())
        archive.writestr("sampleSubmission.csv", "id,label\n1,0\n")
    return outer


with tempfile.TemporaryDirectory() as folder:
    data = Path(sys.argv[1]) if len(sys.argv) > 1 else made_zip(Path(folder))
    catalog = ta.read(data)
    print(f"{len(catalog)} images of {' and '.join(catalog.task.classes)}; layout: {catalog.layout}")
    for finding in catalog.findings:
        print(f"  {finding.severity}: {finding.meaning} {finding.done}")
    run = ta.train(catalog, out=Path(folder) / "run", config=ta.make_config(image_size=96))
    accuracy = run.evaluate().accuracy
    print(f"test accuracy {accuracy} with images of 96x96; decided: {'; '.join(run.record.decided)}")

if len(sys.argv) == 1:
    assert catalog.task.classes == ("cat", "dog")
    assert len(catalog.broken) == 3
    assert accuracy.low > 0.8
