"""Images -> groups that must share a split (one person, session or object), as requested or as detected.

If a group is in two splits, accuracy partly measures recognising its person or place again. Groups are kept together
when splits are drawn (splits); groups that were detected but not requested are a finding.
In: images after the scan.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tellapart.data.catalog import ImageRecord, Split
from tellapart.data.duplicates import Pair
from tellapart.data.findings import Finding
from tellapart.data.leakage import GROUP, leak_findings, tied
from tellapart.data.perceptual_hash import distances, unpacked
from tellapart.data.sources.listing import natural_key
from tellapart.data.sources.members import member_of
from tellapart.errors import ConfigError, unknown

SESSION = timedelta(minutes=5)
"""Longest pause of a camera within a session."""

FEWEST = 5
"""Smallest number of groups that count as detected."""

COVERED = 0.2
"""Smallest share of the images that they must cover."""

LIKER = 0.5
"""How much less two images of one class must differ on average if they are in one group, in spreads."""

SURE = 4.0
"""By how many standard errors this must be significant."""

RUN = 3.0
"""Consecutive images form a run if they differ by this many spreads less than two images of one class usually do."""

SEEMING = "groups-by-"
"""Prefix of the kind of a finding of groups that were not requested; the method follows."""

_PAIRS = 20_000
_SHOWN = 3
_HERE = Path()
_COUNTED = re.compile(r"(?P<stem>.*[^\W_])[\s._(-]+\d+\)?")

Keys = list[str]
"""The name of each image's group; empty if it is in none."""


@dataclass(frozen=True, slots=True)
class Method:
    """A method of detecting groups. find: n images -> n keys. tells: what it is based on, in words. sure: whether that
    alone proves that images belong together."""

    find: Callable[[Sequence[ImageRecord]], Keys]
    tells: str
    sure: bool = False


def grouped(images: Sequence[ImageRecord], group_by: str | None) -> tuple[tuple[ImageRecord, ...], tuple[Finding, ...]]:
    """The images with their groups, merged with those that they already have, and a finding that counts them.

    group_by: as in `method_of`, or None. Raises ConfigError as it does, and if no two images belong together.
    """
    if group_by is None:
        return tuple(images), ()
    method = method_of(group_by)
    keys = _several(method.find(images))
    sizes = Counter(key for key in keys if key)
    if not sizes:
        raise ConfigError(
            f"data.group_by {group_by!r} groups no two of the {len(images)} images by "
            f"{method.tells}. Omit it, or give another: {', '.join(METHODS)}, or a pattern with (?P<group>...)."
        )
    alone = len(images) - sizes.total()
    meaning = f"{len(sizes)} groups of {sizes.total()} images by {method.tells}; {alone} images are in no group."
    named = tuple(f"{key} ({size})" for key, size in sizes.most_common())
    return _joined(images, keys), (
        Finding("grouped", "note", named, meaning, "Random splits keep each group together."),
    )


def group_findings(images: Sequence[ImageRecord], *, drawn: Collection[Split], asked: bool) -> Iterator[Finding]:
    """Known groups that the given splits separate; and, if no groups were requested, detected groups that are
    separated, by the first method that finds any. drawn: the splits that were drawn here."""
    usable = [image for image in images if not image.error]
    yield from leak_findings("leaking-groups", _parted(usable, [p.group for p in usable]), " ~ ", GROUP)
    if asked:
        return
    for name, method in METHODS.items():
        keys = seeming(usable, method)
        apart = _parted(usable, keys)
        if apart:
            yield _seeming(name, method, keys, apart, drawn)
            return


def seeming(images: Sequence[ImageRecord], method: Method) -> Keys:
    """The groups found by this method, if credible: several, covering a good part of the images, and, if the method is
    not sure, more similar within than their class is, so that a year in the names is not taken for a person. Images
    with a known group are ignored."""
    found = method.find(images)
    keys = _several(["" if image.group else key for image, key in zip(images, found, strict=True)])
    several = len(set(keys) - {""}) >= FEWEST and sum(map(bool, keys)) >= COVERED * len(images)
    return keys if several and (method.sure or _more_alike(images, keys)) else [""] * len(keys)


def _seeming(name: str, method: Method, keys: Keys, apart: Sequence[Pair], drawn: Collection[Split]) -> Finding:
    sizes = Counter(key for key in keys if key)
    first = ", ".join(f"{key} with {size}" for key, size in sizes.most_common(_SHOWN))
    split: Split = "test" if any(other.split == "test" for _, other in apart) else "validation"
    return Finding(
        f"{SEEMING}{name}",
        "warning",
        tuple(" ~ ".join(f"{p.path} [{p.split}]" for p in pair) for pair in apart),
        f"{sizes.total()} images seem to form {len(sizes)} groups by {method.tells} ({first})"
        f"{'' if method.sure else ', whose images are unusually alike'}. {tied(apart, split, GROUP)}: if a group is "
        "one person, session or object, accuracy on new ones is lower.",
        f"Keep them together: --group-by {name}."
        if any({one.split, other.split} <= set(drawn) for one, other in apart)
        else "The given splits are kept. If these are groups, give the images without splits and with "
        f"--group-by {name}.",
    )


def _several(keys: Keys) -> Keys:
    """Without the keys of a single image."""
    sizes = Counter(keys)
    return [key if sizes[key] > 1 else "" for key in keys]


def _parted(images: Sequence[ImageRecord], keys: Keys) -> list[Pair]:
    """Each image that has another one of its group in an earlier split, paired with it."""
    first: dict[tuple[str, str], ImageRecord] = {}
    for image, key in zip(images, keys, strict=True):
        first.setdefault((key, image.split), image)
    pairs = []
    for image, key in zip(images, keys, strict=True):
        mate = first.get((key, "train")) or first.get((key, "validation"))
        if key and mate is not None and mate.split != image.split:
            pairs.append((mate, image))
    return pairs


def _joined(images: Sequence[ImageRecord], keys: Keys) -> tuple[ImageRecord, ...]:
    """The images with these groups; groups that share an image with an existing group are merged with it."""
    parent: dict[tuple[str, str], tuple[str, str]] = {}

    def find(name: tuple[str, str]) -> tuple[str, str]:
        while parent.setdefault(name, name) != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    for image, key in zip(images, keys, strict=True):
        if image.group and key:
            parent[find(("there", image.group))] = find(("found", key))
    names = [
        find(("found", key) if key else ("there", image.group)) if key or image.group else ("", "")
        for image, key in zip(images, keys, strict=True)
    ]
    return tuple(replace(image, group=name) for image, (_, name) in zip(images, names, strict=True))


def _more_alike(images: Sequence[ImageRecord], keys: Keys) -> bool:
    """Whether the fingerprints of two images of one class differ less if both are in one group."""
    shown = [place for place, image in enumerate(images) if image.fingerprint]
    packed = unpacked([images[place].fingerprint for place in shown])
    groups = np.array([keys[place] for place in shown])
    generator = np.random.default_rng(0)
    within = _pairs([(images[place].label, keys[place]) if keys[place] else None for place in shown], generator)
    others = _pairs([(images[place].label, "") for place in shown], generator)
    others = others[(groups[others[:, 0]] != groups[others[:, 1]]) | (groups[others[:, 0]] == "")]
    if not len(within) or not len(others):
        return False
    inside, usual = (distances(packed[pairs[:, 0]], packed[pairs[:, 1]]) for pairs in (within, others))
    gain, spread = usual.mean() - inside.mean(), usual.std()
    return bool(gain >= max(LIKER, SURE / np.sqrt(len(inside))) * spread)


def _pairs(kinds: Sequence[tuple[str, str] | None], generator: np.random.Generator) -> NDArray[np.int64]:
    """Random pairs of positions (m, 2) of one kind, about _PAIRS at most; None belongs to no kind."""
    members: dict[tuple[str, str], list[int]] = defaultdict(list)
    for place, kind in enumerate(kinds):
        if kind is not None:
            members[kind].append(place)
    sets = [np.array(places) for places in members.values() if len(places) > 1]
    total = sum(len(places) for places in sets)
    found = [np.empty((0, 2), np.int64)]
    for places in sets:
        wanted = min(len(places) * (len(places) - 1) // 2, -(-_PAIRS * len(places) // total))
        pairs = generator.integers(0, len(places), (2 * wanted, 2))
        found.append(places[pairs[pairs[:, 0] != pairs[:, 1]][:wanted]])
    return np.concatenate(found)


def _by_name(images: Sequence[ImageRecord]) -> Keys:
    """The part of a file name before the last counter (human07 of human07-03.png); if the name is only a counter, the
    folder. A key shared by over half of a class is ignored, as it is the name of the class, or of the camera."""
    keys = []
    for image in images:
        member = member_of(_HERE, image.path) if "#" in image.path else None  # its container is no session
        folder, _, name = (image.path if member is None else member.member).rpartition("/")
        name = name.rpartition(".")[0] or name
        counted = _COUNTED.fullmatch(name)
        keys.append(counted["stem"] if counted else folder if name.isdecimal() else "")
    classes = Counter(image.label for image in images)
    shares = Counter((image.label, key) for image, key in zip(images, keys, strict=True))
    common = {key for (label, key), count in shares.items() if count > 1 and 2 * count > classes[label]}
    return ["" if key in common else key for key in keys]


def _by_exif(images: Sequence[ImageRecord]) -> Keys:
    """Sessions: photographs of one camera without a longer pause between them, named by the first."""
    shots = []
    for place, image in enumerate(images):
        time, _, camera = image.shot.partition(" ")
        try:
            shots.append((camera, datetime.fromisoformat(time), place))
        except ValueError:  # no capture time, or a clock that was never set
            continue
    keys = [""] * len(images)
    last: tuple[str, datetime] | None = None
    session = ""
    for maker, moment, place in sorted(shots):
        if last is None or maker != last[0] or moment - last[1] > SESSION:
            session = f"{maker} {moment}"
        keys[place] = session
        last = maker, moment
    return keys


def _by_looks(images: Sequence[ImageRecord]) -> Keys:
    """Runs: images in the order of their names, each very similar to the one before, as the frames of a video are.

    Very similar: closer than two images of the collection usually are, by RUN spreads. Images without a fingerprint are
    skipped.
    """
    keys = [""] * len(images)
    rows: dict[tuple[str, str], list[int]] = defaultdict(list)
    for place, image in enumerate(images):
        if image.fingerprint:
            rows[image.path.rpartition("/")[0], image.label].append(place)
    packed = unpacked([image.fingerprint for image in images])
    generator = np.random.default_rng(0)
    pairs = _pairs([(p.label, "") if p.fingerprint else None for p in images], generator)
    if not len(pairs):
        return keys
    usual = distances(packed[pairs[:, 0]], packed[pairs[:, 1]])
    bound = np.median(usual) - RUN * (np.median(usual) - np.quantile(usual, 0.25)) / 0.6745
    for places in rows.values():
        places.sort(key=lambda place: natural_key(images[place].path))
        apart = distances(packed[places[:-1]], packed[places[1:]])
        for before, place, bits in zip(places, places[1:], apart.tolist(), strict=False):
            if bits <= bound:
                keys[before] = keys[before] or images[before].path
                keys[place] = keys[before]
    return keys


METHODS = {
    "exif": Method(_by_exif, "camera and time (EXIF)", sure=True),
    "name": Method(_by_name, "file name up to the last number"),
    "looks": Method(_by_looks, "consecutive images that look alike"),
}


def method_of(text: str) -> Method:
    """The method of this name, or a regular expression over paths that has a group named `group`. Raises ConfigError
    for anything else."""
    if text in METHODS:
        return METHODS[text]
    try:
        compiled = re.compile(text)
    except re.error as error:
        raise ConfigError(f"data.group_by {text!r} is not a regular expression: {error}.") from None
    if "group" not in compiled.groupindex:
        pattern = "a regular expression over paths with a group named group, such as (?P<group>[^/-]+)-"
        raise ConfigError(f"{unknown('data.group_by', text, METHODS)} Or give {pattern}.")

    def find(images: Sequence[ImageRecord]) -> Keys:
        return [(match["group"] or "") if (match := compiled.search(p.path)) else "" for p in images]

    return Method(find, f"the pattern {text}")
