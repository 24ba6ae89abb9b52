"""Numbers -> the words that the report shows them in. Read by: every part of the report."""

from __future__ import annotations

from collections.abc import Sequence

from tellapart.evaluation.intervals import Estimate

NARROW = "\N{NARROW NO-BREAK SPACE}"


def percent(share: float, unit: bool = True) -> str:
    """A share as percent with one decimal; with more where it would round to 100 and is not.

    >>> percent(0.9912), percent(0.99997, unit=False)
    ('99.1\N{NARROW NO-BREAK SPACE}%', '99.997')
    """
    text = f"{100 * share:.1f}"
    if text == "100.0":
        text = "100" if share == 1 else f"{100 * min(share, 0.99999):.3f}"
    return text + (f"{NARROW}%" if unit else "")


def between(estimate: Estimate) -> str:
    """The interval of a share, in percent.

    >>> between(Estimate(0.991, 0.984, 0.995))
    '98.4 to 99.5'
    """
    return f"{percent(estimate.low, unit=False)} to {percent(estimate.high, unit=False)}"


def counted(count: int, noun: str, many: str = "") -> str:
    """
    >>> counted(1, "picture"), counted(1200, "picture"), counted(2, "class", "classes")
    ('1 picture', '1,200 pictures', '2 classes')
    """
    return f"{count:,} {noun if count == 1 else many or noun + 's'}"


def listed(names: Sequence[str], most: int = 3) -> str:
    """
    >>> listed(["a", "b"]), listed(["a", "b", "c", "d", "e"])
    ('a and b', 'a, b, c and 2 more')
    """
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most} more"
    return " and ".join([*([", ".join(names[:-1])] if names[1:] else []), *names[-1:]])


def duration(seconds: float) -> str:
    """
    >>> duration(8.4), duration(200), duration(7300)
    ('8 s', '3 min 20 s', '2 h 1 min')
    """
    whole = round(seconds)
    hours, minutes = whole // 3600, whole % 3600 // 60
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {whole % 60} s" if minutes else f"{whole} s"
