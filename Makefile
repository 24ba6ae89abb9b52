# One command for all checks: make check
.PHONY: check lint types test soak coverage fuzz wheel try-wheel try-lowest constraints audit release bench docs

check: lint types test

lint:
	ruff check .
	ruff format --check .

types:
	mypy

test:
	pytest -n auto

# The tests that take minutes each.
soak:
	pytest -n auto -m soak

# Each door through which a stranger's bytes come in, for FUZZ_SECONDS (3600 for a night's search).
fuzz:
	FUZZ_SECONDS=$${FUZZ_SECONDS:-600} python -m tests.fuzz $(FUZZ_ARGUMENTS)

# Which lines of each room the tests reach, those of the processes that they start as well.
coverage:
	pytest -n auto --cov --cov-report=json:.coverage.json
	python -m tools.coverage_by_room .coverage.json

# The wheel, and beside it what it needs, as CycloneDX.
wheel:
	python -m build --wheel
	python -m tools.sbom

# The wheel in fresh environments below WORK: as pip installs it today, and with the oldest versions that it lets in.
WORK ?= /tmp/tellapart-wheel
try-wheel:
	WORK=$(WORK) .ci/wheel
try-lowest:
	WORK=$(WORK) .ci/lowest

# After a change of a bound in pyproject.toml, and now and then.
constraints:
	python -m tools.constraints

# Which of the versions in constraints/ have holes that are known; says so where nobody can be asked.
audit:
	python -m tools.audit

# What a release consists of, in dist/; nothing is published. TAG=v and the version.
release:
	python -m tools.release $(TAG)

bench:
	python -m benchmarks

docs:
	python -m mkdocs build --strict
