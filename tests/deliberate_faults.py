"""One deliberate fault at a time in a copy of the package -> whether the test for it fails.

    python -m tests.deliberate_faults [--only WORD]

The faults are in deliberate_faults.toml: the file, its text, the text with the fault, the test that must fail, and the
harm to a user. Progress goes to standard error, the table to standard output. Exit code 0: every fault is caught; 1:
one is not, or a test fails without any fault; 2: no row contains the word.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from math import ceil
from pathlib import Path

from tellapart.parallel import cores

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "tellapart"
TABLE = Path(__file__).with_suffix(".toml")
SECONDS = 600.0
"""Time limit of a test, or of every 20 that run together; a test that takes longer counts as one without an end."""

PASSED, FAILED = 0, 1  # pytest's exit codes; any other means that it ran no test
CAUGHT = "caught"


@dataclass(frozen=True)
class Fault:
    """file: relative to the package. text: occurs in it exactly once. fault: its replacement. test: the node id of the
    test that must fail. harm: to a user."""

    file: str
    text: str
    fault: str
    test: str
    harm: str

    def apply(self, package: Path) -> None:
        """Apply the fault to a copy of the package. Raises ValueError unless the text occurs once."""
        path = package / self.file
        content = path.read_text(encoding="utf-8")
        if content.count(self.text) != 1:
            raise ValueError(f"{self.file} holds {self.text!r} {content.count(self.text)} times; expected once.")
        path.write_text(content.replace(self.text, self.fault), encoding="utf-8")


@dataclass(frozen=True)
class Outcome:
    """verdict: CAUGHT, or in capitals what happened instead. said: the end of pytest's output."""

    fault: Fault
    verdict: str
    seconds: float
    said: str


def read_table() -> tuple[Fault, ...]:
    """Every row of deliberate_faults.toml."""
    return tuple(Fault(**row) for row in tomllib.loads(TABLE.read_text(encoding="utf-8"))["fault"])


def try_fault(fault: Fault) -> Outcome:
    """Run the row's test against a copy of the package with the fault."""
    with _copy() as source:
        fault.apply(source / "tellapart")
        started = time.monotonic()
        code, said = _pytest([fault.test], source)
    others = {PASSED: "NOT CAUGHT", None: "WITHOUT END"}
    verdict = CAUGHT if code == FAILED else others.get(code, "DID NOT RUN")
    return Outcome(fault, verdict, time.monotonic() - started, said)


def try_without(tests: Sequence[str]) -> str:
    """Run the tests against the unchanged package: empty if all pass, else pytest's output."""
    with _copy() as source:
        code, said = _pytest(list(dict.fromkeys(tests)), source)
    return "" if code == PASSED else said or f"no end within {_limit(len(set(tests))):g} s"


def _limit(tests: int) -> float:
    return SECONDS * ceil(tests / 20)


@contextmanager
def _copy() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="deliberate-fault-") as folder:
        shutil.copytree(PACKAGE, Path(folder) / "tellapart", ignore=shutil.ignore_patterns("__pycache__"))
        yield Path(folder)


def _pytest(tests: list[str], source: Path) -> tuple[int | None, str]:
    """Exit code, None if it timed out, and the output. The copy comes first on the path, also in processes that a test
    starts."""
    path = os.pathsep.join(filter(None, (str(source), str(ROOT), os.environ.get("PYTHONPATH", ""))))
    # Hypothesis' examples of a fault are no examples for the correct code.
    environment = {**os.environ, "PYTHONPATH": path, "HYPOTHESIS_STORAGE_DIRECTORY": str(source / "hypothesis")}
    command = [sys.executable, "-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider", *tests]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            said, _ = process.communicate(timeout=_limit(len(tests)))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return None, process.communicate()[0][-2000:]
    return process.returncode, said[-2000:]


def show(outcomes: Sequence[Outcome]) -> str:
    """A table: verdict, seconds, file, harm, and the test."""
    width = max(len(outcome.verdict) for outcome in outcomes)
    where = max(len(outcome.fault.file) for outcome in outcomes)
    harm = max(len(outcome.fault.harm) for outcome in outcomes)
    lines = [
        f"{o.verdict:{width}}  {o.seconds:5.1f} s  {o.fault.file:{where}}  {o.fault.harm:{harm}}  {o.fault.test}"
        for o in outcomes
    ]
    caught = sum(outcome.verdict == CAUGHT for outcome in outcomes)
    return "\n".join([*lines, f"{caught} of {len(outcomes)} faults are caught"])


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Put one fault at a time into a copy, and see a test fail.")
    parser.add_argument("--only", metavar="WORD", default="", help="rows that hold this word, in any of their texts")
    word = parser.parse_args(arguments).only.lower()
    faults = [fault for fault in read_table() if any(word in text.lower() for text in astuple(fault))]
    if not faults:
        print(f"No row of {TABLE.name} holds {word!r}.", file=sys.stderr)
        return 2
    print("the tests without any fault", file=sys.stderr)
    problem = try_without([fault.test for fault in faults])
    if problem:
        print(f"{problem}\nThese fail without any fault, and so can tell of none.", file=sys.stderr)
        return 1
    outcomes: list[Outcome] = []
    with ThreadPoolExecutor(cores()) as pool:
        for outcome in pool.map(try_fault, faults):
            outcomes.append(outcome)
            print(f"{len(outcomes)} of {len(faults)}  {outcome.verdict}: {outcome.fault.harm}", file=sys.stderr)
            if outcome.verdict != CAUGHT:
                print(outcome.said, file=sys.stderr)
    print(show(outcomes))
    return 0 if all(outcome.verdict == CAUGHT for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
