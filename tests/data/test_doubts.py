from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import tellapart as ta
from tellapart.data.catalog import Catalog
from tellapart.data.doubts import KINDS, SuspectLabel, doubts_of
from tests.conftest import draw


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """Discs and stripes: one file under both labels, and a burst of five."""
    folder = tmp_path_factory.mktemp("doubts") / "shapes"
    for kind in ("disc", "stripes"):
        (folder / kind).mkdir(parents=True)
        for number in range(12):
            draw(kind, number, 96).save(folder / kind / f"{kind} {number}.png")
    (folder / "stripes" / "again.png").write_bytes((folder / "disc" / "disc 3.png").read_bytes())
    for number in range(5):
        draw("disc", 100, 96).resize((96 + number, 96)).save(folder / "disc" / f"frame-{number}.png")
    return ta.read(folder)


def test_copies_and_bursts_are_found_without_a_look_into_the_images(catalog: Catalog) -> None:
    found = doubts_of(catalog)
    kinds = {doubt.kind: doubt for doubt in found}
    assert set(kinds["contradicting"].paths) == {"disc/disc 3.png", "stripes/again.png"}
    assert kinds["burst"].paths == tuple(f"disc/frame-{number}.png" for number in range(5))
    assert [doubt.kind for doubt in found] == sorted((doubt.kind for doubt in found), key=list(KINDS).index)
    assert kinds["burst"].likely == (("disc", None), ("stripes", None))


def test_a_doubt_has_the_same_key_whenever_it_is_found_and_no_other_has_it(catalog: Catalog) -> None:
    one, other = doubts_of(catalog), doubts_of(catalog)
    assert [doubt.key for doubt in one] == [doubt.key for doubt in other]
    assert len({doubt.key for doubt in one}) == len(one)


def test_what_a_run_suspects_is_a_doubt_with_its_classes_and_a_proposal(catalog: Catalog) -> None:
    likely = (("stripes", 0.9), ("disc", 0.1))
    (doubt,) = (
        d for d in doubts_of(catalog, suspects=[SuspectLabel("disc/disc 5.png", likely)]) if d.kind == "suspect"
    )
    assert doubt.likely == likely
    assert (doubt.proposed[0].action, doubt.proposed[0].label) == ("relabel", "stripes")
    assert doubt.reason == "Labelled disc; the run says stripes (90 %)."


def test_copies_across_splits_can_be_kept_together_only_where_splits_are_drawn(catalog: Catalog) -> None:
    images = tuple(
        replace(image, label="disc", split="test" if image.path.endswith("again.png") else "train")
        for image in catalog.images
    )
    given = replace(catalog, images=images)
    (across,) = (doubt for doubt in doubts_of(given) if doubt.kind == "leaking")
    assert not across.together
    (across,) = (doubt for doubt in doubts_of(given, drawn=frozenset(("train", "test"))) if doubt.kind == "leaking")
    assert across.together


def test_a_folder_without_a_doubt_has_none(tmp_path: Path) -> None:
    for kind in ("disc", "stripes"):
        (tmp_path / kind).mkdir()
        for number in range(4):
            draw(kind, number).save(tmp_path / kind / f"{number}.png")
    assert len(ta.doubts(tmp_path, deep=False)) == 0
