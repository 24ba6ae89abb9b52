"""Fuzzing: every door through which a stranger's bytes come in, for a while each; the outcome may go into docs/soak.md.

    python -m tests.fuzz --seconds 60 [--only WORD] [--jobs N] [--write]
    python -m tests.fuzz --only images --input FILE

from the root of a checkout. The first searches, from small files that the project makes itself; what it finds is put
into fuzz-faults/, and the second tries such a file again. Exit code 0: nothing was found; 1: a fault was; 2: nothing
could be searched. Needs Atheris, which is there for Linux on x86-64; the tests in test_fuzz.py need only Hypothesis.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from tellapart.parallel import cores
from tellapart.runs.versions import versions
from tests.fuzz.found import FOUND
from tests.fuzz.oracle import fault
from tests.fuzz.target import Promise, Target

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "soak.md"
HEADING, BY_HAND = "## Fuzzing", "## By hand"
"""Begin the part of the page that is written here, and what follows; what stands before is the soak's."""
RESTARTS = 25
"""Of one target: each crash ends a process."""
SETTINGS = ("model.name=cnn", "model.filters=[4]", "model.dense=[4]", "image.height=16", "image.width=16")
_ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}


@dataclass
class Outcome:
    """inputs: how many were tried. found: faults, in a line each. beyond: inputs of a target that promises neither time
    nor memory, which took more than the search allows."""

    target: Target
    inputs: int = 0
    seconds: float = 0.0
    found: list[str] = field(default_factory=list)
    beyond: int = 0

    def cells(self) -> tuple[str, str, str, str]:
        found = "; ".join(self.found) or "nothing"
        beyond = f" ({self.beyond} took longer or more memory than is promised of a network)" if self.beyond else ""
        return self.target.name, f"{self.inputs:,}", f"{self.seconds:,.0f}", found + beyond


def train(folder: Path) -> Path:
    """A small run of made images, for the targets that need one."""
    import tellapart as ta
    from tests.conftest import make_shapes

    images = make_shapes(folder / "shapes", ("disc", "stripes"), 12)
    config = ta.make_config(settings=[*SETTINGS, "train.epochs=2"])
    return ta.train(images, out=folder / "run", config=config).path


def _trained(folder: Path) -> Path:
    """The same in a process of its own: Linux counts the memory of who starts a worker as the worker's."""
    code = f"from pathlib import Path; from tests.fuzz.__main__ import train; train(Path({str(folder)!r}))"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=_ENVIRONMENT, check=True, capture_output=True)
    return folder / "run"


def search(target: Target, table: str, run: Path, folder: Path, seconds: float, out: Path) -> Outcome:
    """Search one target for so long, beginning again after each crash."""
    place = folder / target.name.replace(" ", "-")
    seeds, corpus, faults = (place / name for name in ("seeds", "corpus", "faults"))
    for each in (seeds, corpus, faults):
        each.mkdir(parents=True)
    for number, content in enumerate(target.seeds(run).values()):
        (seeds / f"{number:03d}").write_bytes(content)
    outcome = Outcome(target)
    limits = target.promised or Promise()
    started = time.monotonic()
    for restart in range(RESTARTS):
        left = seconds - (time.monotonic() - started)
        if left < 1 and restart:
            break
        options = [
            f"-max_total_time={max(1, round(left))}", f"-timeout={limits.seconds}", f"-rss_limit_mb={limits.megabytes}",
            f"-artifact_prefix={faults}/{restart:02d}-", "-print_final_stats=1", "-detect_leaks=0", "-verbosity=1",
            str(corpus), str(seeds),
        ]  # fmt: skip
        code, said = _work([table, target.name, str(run), str(faults), *options], left + 120)
        counted = re.search(r"stat::number_of_executed_units:\s*(\d+)", said)
        outcome.inputs += int(counted[1]) if counted else 0
        if code == 0:
            break
        ended = list(faults.glob(f"{restart:02d}-*"))
        if not ended:
            raise SystemExit(f"The search of {target.name} cannot begin (exit code {code}):\n{said[-3000:]}")
        for path in ended:
            kind = path.name.split("-")[1]
            if target.promised is None and kind in ("timeout", "oom"):
                outcome.beyond += 1
                path.unlink()
            else:
                path.with_suffix(".txt").write_text(f"{kind} (exit code {code})\n{said[-8000:]}", encoding="utf-8")
    outcome.seconds = time.monotonic() - started
    for path in sorted(faults.glob("*.txt")):
        outcome.found.append(path.read_text("utf-8").partition("\n")[0])
        out.mkdir(exist_ok=True)
        for kept in (path, path.with_suffix("")):
            (out / f"{place.name}-{kept.name}").write_bytes(kept.read_bytes())
    return outcome


def _work(arguments: list[str], seconds: float) -> tuple[int, str]:
    """Exit code and standard error of a worker; it is ended with all that it started."""
    command = [sys.executable, "-m", "tests.fuzz.worker", *arguments]
    with (
        tempfile.TemporaryFile("w+", errors="replace") as said,
        subprocess.Popen(
            command, cwd=ROOT, env=_ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=said, start_new_session=True
        ) as process,
    ):
        try:
            with suppress(subprocess.TimeoutExpired):
                process.wait(seconds)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        said.seek(0)
        return process.wait(), said.read()


def section(outcomes: Sequence[Outcome], seconds: float, jobs: int) -> str:
    """The part of docs/soak.md."""
    rows = "\n".join(f"| {' | '.join(outcome.cells())} |" for outcome in outcomes)
    inputs = sum(outcome.inputs for outcome in outcomes)
    hours = sum(outcome.seconds for outcome in outcomes) / 3600
    made = ", ".join(f"{name} {version}" for name, version in versions().items())
    return f"""{HEADING}

Untrusted inputs were mutated and tried: `python -m tests.fuzz --seconds {seconds:g} --jobs {jobs} --write`, on
{datetime.now(UTC):%Y-%m-%d}, on {os.cpu_count()} cores of {platform.machine()}, with {made}. {inputs:,} inputs in
{hours:.2f} hours of search; this section is its output.

The search begins with small files that the project makes itself, and keeps what reaches a new branch. A fault is any
exception but tellapart's own, a crash, an input that takes too long or too much memory, a file written elsewhere, a
process that is started, and a name that is looked up.

| entry point | inputs | seconds | found |
|---|---|---|---|
{rows}

Searches before this one found {", ".join(FOUND)}: fixed since, and covered by tests.
"""


def try_again(target: Target, path: Path) -> int:
    """Try one input, in this process; says what came of it."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        work = Path(folder, "work")
        work.mkdir()
        if target.prepare is not None:
            target.prepare(_trained(Path(folder)))
        place, what = fault(target, path.read_bytes(), work)
    print(f"{place}\n{what}" if place else what)
    return 1 if place else 0


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument(
        "--seconds", type=float, default=float(os.environ.get("FUZZ_SECONDS", "60")), help="each target"
    )
    parser.add_argument("--only", metavar="WORD", default="", help="targets whose name holds it")
    parser.add_argument("--jobs", type=int, default=cores(), help="targets at a time")
    parser.add_argument("--table", default="tests.fuzz.targets", help="module that holds TARGETS")
    parser.add_argument("--out", type=Path, default=ROOT / "fuzz-faults", help="folder of the inputs that were found")
    parser.add_argument("--run", type=Path, help="a run to begin with; default: a small one is trained")
    parser.add_argument("--input", type=Path, help="try this one file")
    parser.add_argument("--write", action="store_true", help=f"write into {PAGE.relative_to(ROOT)}")
    given = parser.parse_args(arguments)
    targets = [row for row in importlib.import_module(given.table).TARGETS if given.only in row.name]
    if not targets:
        print(f"No target holds {given.only!r}.", file=sys.stderr)
        return 2
    if given.input:
        return try_again(targets[0], given.input)
    if importlib.util.find_spec("atheris") is None:
        print("Atheris is not installed, or not made for this machine: nothing was searched.", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder, ThreadPoolExecutor(given.jobs) as pool:
        run = given.run or _trained(Path(folder))
        outcomes = []
        for outcome in pool.map(
            lambda row: search(row, given.table, run, Path(folder), given.seconds, given.out), targets
        ):
            outcomes.append(outcome)
            print(" | ".join(outcome.cells()), flush=True)
    if given.write:
        before, _, rest = PAGE.read_text("utf-8").partition(f"\n{HEADING}\n")
        after = "".join(rest.partition(f"\n{BY_HAND}\n")[1:])
        found = section(outcomes, given.seconds, given.jobs)
        PAGE.write_text(f"{before.rstrip()}\n\n{found}{after}", encoding="utf-8")
    return 1 if any(outcome.found for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
