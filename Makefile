# One command for all checks: make check
.PHONY: check lint types test fuzz wheel constraints audit bench docs

check: lint types test

lint:
	ruff check .
	ruff format --check .

types:
	mypy

test:
	pytest -n auto

# Each door through which a stranger's bytes come in, for FUZZ_SECONDS (3600 for a night's search).
fuzz:
	FUZZ_SECONDS=$${FUZZ_SECONDS:-600} python -m tests.fuzz

# The wheel, and beside it what it needs, as CycloneDX.
wheel:
	python -m build --wheel
	python -m tools.sbom

# After a change of a bound in pyproject.toml, and now and then.
constraints:
	python -m tools.constraints

# Which of the versions in constraints/ have holes that are known; says so where nobody can be asked.
audit:
	python -m tools.audit

bench:
	python -m benchmarks

docs:
	python -m mkdocs build --strict
