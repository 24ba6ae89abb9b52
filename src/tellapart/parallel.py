"""Parallel map: many inputs -> results in order, computed in threads, with a limited number in flight.

Threads, not processes: decoding, resizing, warping and the engines release the interpreter lock.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Input = TypeVar("Input")
Output = TypeVar("Output")


def cores() -> int:
    """Number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_order(
    work: Callable[[Input], Output], inputs: Iterable[Input], *, workers: int | None = None, ahead: int = 64
) -> Generator[Output, None, None]:
    """work(input) for each input, in order; `inputs` is read at most `ahead` items before they are needed.

    An error of `work` is raised in place of its result. Closing the iterator early stops the threads.

    >>> list(in_order(abs, [-1, 2, -3]))
    [1, 2, 3]
    """
    coming = iter(inputs)
    pool = ThreadPoolExecutor(workers or cores())
    try:
        flying: deque[Future[Output]] = deque(pool.submit(work, item) for item in islice(coming, ahead))
        while flying:
            result = flying.popleft().result()
            flying.extend(pool.submit(work, item) for item in islice(coming, 1))
            yield result
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
