"""Images of one person, session or thing: found by names, cameras and looks, and kept together."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tellapart as ta
from tellapart.config import DataConfig
from tellapart.data.catalog import Catalog, ImageRecord
from tellapart.data.groups import METHODS, group_findings, grouped, seeming
from tellapart.data.sources import read_source
from tellapart.data.splits import drawn_splits
from tellapart.errors import ConfigError
from tests.data.test_exif import EXIF_IFD, MAKE, MODEL, TAKEN

COLLECTIONS = Path(__file__).resolve().parents[3] / "shared" / "data"
ALL = drawn_splits([])


def turned(base: np.ndarray, bits: int, generator: np.random.Generator) -> str:
    looks = base.copy()
    looks[generator.choice(128, bits, replace=False)] ^= True
    return np.packbits(looks).tobytes().hex()


def people(each: int = 6, count: int = 10, *, bits: int = 20) -> list[ImageRecord]:
    """Of each class so many people, of each so many images that differ in so many bits from one of theirs."""
    generator = np.random.default_rng(0)
    rows = []
    for label in ("smiling", "frowning"):
        for person in range(count):
            base = generator.random(128) < 0.5
            rows += [
                ImageRecord(
                    f"{label}/{label[0]}{person:02d}-{shot}.jpg",
                    label,
                    digest=f"{label}{person}{shot}",
                    fingerprint=turned(base, bits, generator),
                    width=100,
                    height=100,
                )
                for shot in range(each)
            ]
    return rows


def named(names: Sequence[str], label: str = "a") -> list[ImageRecord]:
    return [ImageRecord(f"{label}/{name}", label, digest=name) for name in names]


def groups(rows: Sequence[ImageRecord], group_by: str) -> list[str]:
    return [image.group for image in grouped(rows, group_by)[0]]


def sides(catalog: Catalog) -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for image in catalog.images:
        if image.group:
            found[image.group].add(image.split)
    return found


def test_names_group_by_what_stands_before_the_last_number() -> None:
    rows = named(["human07-03.png", "human07-12.png", "human08 (1).png", "human08 (2).png", "x.png", "p_3_1.jpg"])
    assert groups(rows, "name") == ["human07", "human07", "human08", "human08", "", ""]


@pytest.mark.parametrize(
    "name", ["Abyssinian_{}.jpg", "cat.{}.jpg", "IMG_{}.jpg", "DSC{}.jpg", "{}.jpg", "img ({}).png"]
)
def test_the_name_of_a_class_or_a_camera_is_no_group(name: str) -> None:
    rows = named([name.format(number) for number in range(10)])
    with pytest.raises(ConfigError, match=r"'name' groups no two of the 10 images"):
        grouped(rows, "name")


def test_images_that_are_only_numbered_are_grouped_by_their_folder_where_that_is_not_the_class() -> None:
    rows = [ImageRecord(f"patient{p}/{n}.png", "ab"[p % 2], digest=f"{p}{n}") for p in range(6) for n in range(3)]
    assert groups(rows, "name")[:4] == ["patient0"] * 3 + ["patient1"]


def test_a_pattern_groups_by_its_group_in_the_whole_path() -> None:
    rows = named(["ann/1.jpg", "bob/2.jpg", "ann/3.jpg", "4.jpg"])
    assert groups(rows, r"/(?P<group>[a-z]+)/") == ["ann", "", "ann", ""]


@pytest.mark.parametrize(
    ("given", "told"),
    [("nmae", "Did you mean 'name'"), ("(x", "is not a regular expression"), ("(.*)-", "with a group named group")],
)
def test_what_is_no_way_to_group_is_refused_before_any_image_is_read(
    given: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tellapart.api.datasets.scan", None)
    with pytest.raises(ConfigError, match=told):
        ta.read("builtin:pets", group_by=given)


def test_groups_are_joined_to_those_that_the_images_came_with() -> None:
    rows = named(["p1-1.jpg", "p1-2.jpg", "p2-1.jpg", "p2-2.jpg", "p3-1.jpg", "p3-2.jpg", "q.jpg", "r.jpg"])
    there = ["", "copies-1", "copies-1", "", "", "", "other", "other"]
    joined = groups([ImageRecord(p.path, p.label, "", g, p.digest) for p, g in zip(rows, there, strict=True)], "name")
    assert len(set(joined[:4])) == 1
    assert len(set(joined)) == 3
    assert "" not in joined


def test_sessions_of_one_camera_end_where_it_rests() -> None:
    times = [("A", 0), ("A", 4), ("B", 4), ("A", 8), ("B", 30), ("A", 14), ("B", 31)]
    rows = [
        ImageRecord(f"a/{n}.jpg", "a", digest=str(n), shot=f"2026-03-01T12:{minute:02d}:00 {camera}")
        for n, (camera, minute) in enumerate(times)
    ]
    first, second = "A 2026-03-01 12:00:00", "B 2026-03-01 12:30:00"
    assert groups(rows, "exif") == [first, first, "", first, second, "", second]


def test_runs_are_images_each_nearly_like_the_one_before() -> None:
    generator = np.random.default_rng(0)
    rows = []
    for film in range(8):
        looks = generator.random(128) < 0.5
        for frame in range(10):
            looks = np.unpackbits(np.frombuffer(bytes.fromhex(turned(looks, 12, generator)), np.uint8)).astype(bool)
            number = 10 * film + frame
            fingerprint = np.packbits(looks).tobytes().hex()
            rows.append(ImageRecord(f"a/{number}.jpg", "a", digest=str(number), fingerprint=fingerprint))
    found = groups(rows[::-1], "looks")[::-1]
    assert found == [f"a/{number // 10 * 10}.jpg" for number in range(80)]
    assert seeming(rows, METHODS["looks"]) == found


def test_people_in_the_names_are_found_without_being_asked_for() -> None:
    rows = [ImageRecord(p.path, p.label, ("train", "test")[n % 2], "", p.digest, fingerprint=p.fingerprint)
            for n, p in enumerate(people(bits=45))]  # fmt: skip
    (finding,) = group_findings(rows, drawn=ALL, asked=False)
    assert (finding.kind, finding.severity) == ("groups-by-name", "warning")
    assert finding.meaning.startswith("120 images seem to form 20 groups by file name up to the last number")
    assert "60 test images have others of their groups in training" in finding.meaning
    assert finding.done == "Keep them together: --group-by name."
    assert finding.paths[0] == "smiling/s00-0.jpg [train] ~ smiling/s00-1.jpg [test]"
    assert list(group_findings(rows, drawn=ALL, asked=True)) == []
    (given,) = group_findings(rows, drawn=frozenset(), asked=False)
    assert given.done.startswith("The given splits are kept.")


def test_years_and_views_in_the_names_are_not_taken_for_people() -> None:
    generator = np.random.default_rng(0)
    rows = [
        ImageRecord(f"{label}/{2001 + n % 9}_{n:06d}.jpg", label, ("train", "test")[n // 9 % 2], digest=f"{label}{n}",
                fingerprint=turned(generator.random(128) < 0.5, 0, generator))
        for label in "ab" for n in range(200)
    ]  # fmt: skip
    assert list(group_findings(rows, drawn=ALL, asked=False)) == []


def test_groups_that_were_given_and_that_given_splits_part_are_a_leak() -> None:
    rows = [
        ImageRecord("a/1.jpg", "a", "train", "ann", "1"),
        ImageRecord("a/2.jpg", "a", "test", "ann", "2"),
        ImageRecord("a/3.jpg", "a", "validation", "bob", "3"),
        ImageRecord("a/4.jpg", "a", "train", "bob", "4"),
    ]
    test, validation = group_findings(rows, drawn=frozenset(), asked=True)
    assert (test.kind, test.severity) == ("leaking-groups", "error")
    assert test.meaning == "1 test image has others of its group in training: test accuracy is optimistic (leakage)."
    assert test.paths == ("a/1.jpg [train] ~ a/2.jpg [test]",)
    assert (validation.kind, validation.severity) == ("leaking-groups-validation", "warning")


def bursts(folder: Path, cameras: int = 8, each: int = 5) -> Path:
    """Real photographs, each shown several times as a telephone does in a burst: a little shifted, seconds apart."""
    source = read_source("builtin:pets", DataConfig())
    for number, row in enumerate(source.rows[:: len(source.rows) // (2 * cameras)][: 2 * cameras]):
        image = Image.open(source.root / row.path).convert("RGB")
        side = min(image.size)
        for shot in range(each):
            exif = Image.Exif()
            exif[MAKE], exif[MODEL] = "Acme", "Phone"
            exif.get_ifd(EXIF_IFD)[TAKEN] = f"2026:03:01 {number:02d}:00:{shot:02d}"
            place = folder / "ab"[number % 2] / f"{7919 * (number + 97 * shot) % 10007:05d}.jpg"
            place.parent.mkdir(parents=True, exist_ok=True)
            left, top = shot * side // 12, (each - shot) * side // 14
            image.crop((left, top, left + side * 5 // 8, top + side * 5 // 8)).save(place, exif=exif)
    return folder


def test_bursts_of_a_telephone_are_found_and_with_group_by_kept_on_one_side(tmp_path: Path) -> None:
    folder = bursts(tmp_path / "photos")
    finding = next(f for f in ta.read(folder).findings if f.kind.startswith("groups-by-"))
    assert finding.kind == "groups-by-exif"
    assert "--group-by exif" in finding.done
    asked = ta.read(folder, group_by="exif")
    assert not any(f.kind.startswith(("groups-by-", "leaking-groups")) for f in asked.findings)
    assert len(sides(asked)) == 16
    assert all(len(splits) == 1 for splits in sides(asked).values())
    assert next(f for f in asked.findings if f.kind == "grouped").meaning == (
        "16 groups of 80 images by camera and time (EXIF); 0 images are in no group."
    )
    again = ta.read(folder, group_by="exif")  # out of the memory of the scan
    assert again.images == asked.images


def test_a_catalog_that_was_read_without_groups_is_not_grouped_by_training(tmp_path: Path) -> None:
    pytest.importorskip("keras")
    catalog = ta.read("builtin:pets")
    with pytest.raises(ConfigError, match=r"Give group_by to read\(\)"):
        ta.train(catalog, config=ta.make_config(data={"group_by": "exif"}), out=tmp_path / "run")


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("horses-or-humans", {"groups-by-name"}),
        *((name, set()) for name in ("cats-dogs", "fer2013", "gtsrb16", "neu-steel", "pets-three-breeds")),
        ("rock-paper-scissors", set()),
    ],
)
def test_of_collections_only_the_one_that_has_groups_is_said_to(name: str, kinds: set[str]) -> None:
    if not (COLLECTIONS / name).is_dir():
        pytest.skip("the collections are not here")
    catalog = ta.read(COLLECTIONS / name)
    assert {f.kind for f in catalog.findings if f.kind.startswith("groups-by-")} == kinds
    if kinds:
        asked = ta.read(COLLECTIONS / name, group_by="name")
        assert all(len(splits) == 1 for splits in sides(asked).values())
        sizes = Counter(p.group for p in asked.images if p.group)
        assert (len(sizes), sizes["human07"]) == (26, 7)
