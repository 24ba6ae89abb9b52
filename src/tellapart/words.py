"""Numbers -> text for people, the same in terminals, reports, pages and files.

Every proportion is shown by `percent`; only JSON has the number itself, in 0..1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Interval(Protocol):
    """Such as evaluation.intervals.Estimate, in 0..1."""

    @property
    def value(self) -> float: ...
    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...


def percent(share: float, digits: int | None = 1, unit: bool = True) -> str:
    """A proportion, 0..1, as percent: 100 or 0 only if it is exactly all or none, never by rounding.

    digits: decimals; None: as many as the person gave who requested it.

    >>> percent(0.9912), percent(1.0), percent(0.99997), percent(0.0002), percent(0.0)
    ('99.1 %', '100 %', '> 99.9 %', '< 0.1 %', '0 %')
    >>> percent(0.98125, digits=2), percent(0.4999, digits=0, unit=False), percent(0.99, digits=None)
    ('98.12 %', '50', '99 %')
    """
    text = f"{100 * share:.{6 if digits is None else digits}f}"
    least = 10.0 ** -(digits or 0)
    if share in (0, 1) or digits is None:
        text = f"{100 * share:.6g}"
    elif float(text) == 100:
        text = f"> {100 - least:.{digits}f}"
    elif float(text) == 0:
        text = f"< {least:.{digits}f}"
    return text + (" %" if unit else "")


def probability(value: float) -> str:
    """A network's probability for one image, as percent: never 0 or 100 %, though float32 rounds to it.

    >>> probability(0.8312), probability(1.0), probability(0.0)
    ('83.1 %', '> 99.9 %', '< 0.1 %')
    """
    return percent(min(max(value, 1e-9), 1 - 1e-9))


def between(estimate: Interval, digits: int = 1) -> str:
    """The interval of a proportion, in percent.

    >>> from tellapart.evaluation.intervals import Estimate
    >>> between(Estimate(0.991, 0.984, 0.995))
    '98.4 to 99.5'
    """
    return f"{percent(estimate.low, digits, unit=False)} to {percent(estimate.high, digits, unit=False)}"


def measured(estimate: Interval) -> str:
    """A proportion with its interval.

    >>> from tellapart.evaluation.intervals import Estimate
    >>> measured(Estimate(0.991, 0.984, 1.0))
    '99.1 % (98.4 to 100)'
    """
    return f"{percent(estimate.value)} ({between(estimate)})"


def points(difference: float, digits: int = 1) -> str:
    """A difference of proportions, -1..1, in percentage points.

    >>> points(0.234), points(-0.01)
    ('23.4 points', '1.0 points')
    """
    return f"{100 * abs(difference):.{digits}f} points"


def counted(count: int, noun: str, many: str = "") -> str:
    """
    >>> counted(1, "image"), counted(1200, "image"), counted(2, "class", "classes")
    ('1 image', '1,200 images', '2 classes')
    """
    return f"{count:,} {noun if count == 1 else many or noun + 's'}"


def spelled(number: int) -> str:
    """A count in a sentence: as a word up to twelve.

    >>> spelled(4), spelled(13)
    ('four', '13')
    """
    small = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
    return small[number] if 0 <= number < len(small) else f"{number:,}"


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


def size(count: int) -> str:
    """Bytes of a file.

    >>> size(13_450_000), size(52_000)
    ('13.4 MB', '52 kB')
    """
    return f"{count / 1e6:.1f} MB" if count >= 100_000 else f"{count / 1e3:.0f} kB"
