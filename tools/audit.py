"""The constraints -> known vulnerabilities of their versions, by pip-audit, if its services can be reached.

    python -m tools.audit

Exit code 0: none is known, or no service could be reached (with a message); 1: some are, one per line.
"""

from __future__ import annotations

import json
import subprocess
import sys

from tools.constraints import FILES, ROOT

SERVICES = ("pypi", "osv")
"""Asked in this order; the next one if a service does not answer, or knows none of the packages, as mirrors of PyPI
do."""


def asked(path: str, service: str) -> list[dict[str, object]]:
    """What the service reports for each pinned package; empty if it cannot be reached or knows none."""
    command = ["--requirement", path, "--no-deps", "--disable-pip", "--format", "json", "--progress-spinner", "off"]
    said = subprocess.run(
        [sys.executable, "-m", "pip_audit", *command, "--vulnerability-service", service, "--timeout", "15"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        return [row for row in json.loads(said.stdout)["dependencies"] if "skip_reason" not in row]
    except (ValueError, LookupError):
        return []


def main() -> int:
    known = False
    for file in FILES:
        rows = next((rows for service in SERVICES if (rows := asked(str(file.path), service))), [])
        if not rows:
            print(f"{file.path.name}: no service could be asked; nothing is known of holes.", file=sys.stderr)
            continue
        found = [(row, hole) for row in rows for hole in row["vulns"]]  # type: ignore[attr-defined]
        for row, hole in found:
            mended = ", ".join(hole["fix_versions"]) or "no version"
            print(f"{file.path.name}: {row['name']} {row['version']}: {hole['id']}, mended in {mended}")
        print(f"{file.path.name}: {len(rows)} packages asked for, {len(found)} holes known", file=sys.stderr)
        known = known or bool(found)
    return 1 if known else 0


if __name__ == "__main__":
    sys.exit(main())
