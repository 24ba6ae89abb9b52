"""The table of public data sets that can be downloaded by name: where they are, their size and licence.

Plain values. Sizes and checksums are those published by others for the same files, mostly TensorFlow Datasets.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Part:
    """One file of a collection. split: the archive is unpacked into the folder of this name; inside: the folder in the
    archive that contains the classes."""

    url: str
    size: int
    sha256: str
    split: str = ""
    inside: str = ""

    @property
    def file(self) -> str:
        return self.url.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class Collection:
    """One row. parts: files on plain servers; kaggle: otherwise the name of a competition or OWNER/DATASET there.

    size: bytes to download, 0 if unknown; recipe: one that was made for these images.
    """

    name: str
    summary: str
    licence: str
    parts: tuple[Part, ...] = ()
    kaggle: str = ""
    recipe: str = ""

    @property
    def size(self) -> int:
        return sum(part.size for part in self.parts)

    @property
    def source(self) -> str:
        return f"kaggle:{self.kaggle}" if self.kaggle else self.parts[0].url.split("/")[2]


_KERAS = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/"
_TENSORFLOW = "https://storage.googleapis.com/download.tensorflow.org/"
_MICROSOFT = "https://download.microsoft.com/download/3/E/1/3E1C3F21-ECDB-4869-8368-6DEBA77B919F/"

COLLECTIONS: dict[str, Collection] = {
    row.name: row
    for row in (
        Collection(
            "cats-dogs",
            "25,000 photographs of cats and dogs in class folders, some of them damaged",
            "Microsoft Research, for research use",
            (
                Part(
                    f"{_MICROSOFT}kagglecatsanddogs_5340.zip",
                    824_887_076,
                    "b7974bd00a84a99921f36ee4403f089853777b5ae8d151c76a86e64900334af9",
                ),
            ),
            recipe="cats-dogs-b",
        ),
        Collection(
            "dogs-vs-cats",
            "The Kaggle competition of 2013: 25,000 training photographs, labels in the file names",
            "the competition's rules, which you accept on its page",
            kaggle="dogs-vs-cats",
            recipe="cats-dogs-64",
        ),
        Collection(
            "fashion-mnist",
            "70,000 grey images of 28x28, ten kinds of clothing, 10,000 of them for testing",
            "MIT",
            (
                Part(
                    f"{_KERAS}train-images-idx3-ubyte.gz",
                    26_421_880,
                    "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
                ),
                Part(
                    f"{_KERAS}train-labels-idx1-ubyte.gz",
                    29_515,
                    "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
                ),
                Part(
                    f"{_KERAS}t10k-images-idx3-ubyte.gz",
                    4_422_102,
                    "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
                ),
                Part(
                    f"{_KERAS}t10k-labels-idx1-ubyte.gz",
                    5_148,
                    "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
                ),
            ),
            recipe="fashion-conv",
        ),
        Collection(
            "flowers",
            "3,670 photographs of five flowers in class folders",
            "CC BY 2.0, each photographer named in the archive",
            (
                Part(
                    f"{_TENSORFLOW}example_images/flower_photos.tgz",
                    228_813_984,
                    "4c54ace7911aaffe13a365c34f650e71dd5bf1be0a58b464e5a7183e3e595d9c",
                ),
            ),
        ),
        Collection(
            "horses-humans",
            "1,283 rendered images of horses and humans, 256 of them for testing",
            "CC BY 2.0",
            (
                Part(
                    f"{_TENSORFLOW}data/horse-or-human.zip",
                    149_574_867,
                    "e2e6f70d3d549c5dd10a57165e55af253ee66ad750403f95c0fb76bb943633a9",
                    "train",
                ),
                Part(
                    f"{_TENSORFLOW}data/validation-horse-or-human.zip",
                    11_480_187,
                    "ae5fff2f4f5554791f05358108e2e05d9801b191f1896ea101402f0e7f6c32c0",
                    "test",
                ),
            ),
            recipe="horses-humans",
        ),
        Collection(
            "rock-paper-scissors",
            "2,892 rendered images of hands, 372 of them for testing",
            "CC BY 2.0",
            (
                Part(
                    f"{_TENSORFLOW}data/rps.zip",
                    200_682_221,
                    "c2403444395842ad04c53612bad54b574443eae17a0723117a2ff87b9d72194f",
                    "train",
                    "rps",
                ),
                Part(
                    f"{_TENSORFLOW}data/rps-test-set.zip",
                    29_516_758,
                    "c27ab9fa43ce40b2e453de711365b477f4424586edf0388116674fd320f07503",
                    "test",
                    "rps-test-set",
                ),
            ),
            recipe="rock-paper-scissors",
        ),
    )
}
