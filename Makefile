# One command for all checks: make check
.PHONY: check lint types test soak coverage fuzz wheel try-wheel try-lowest try-extras try-image constraints audit release bench docs

check: lint types test

lint:
	ruff check .
	ruff format --check .

types:
	mypy

# All tests, or those of one room of docs/design.md: make test ROOM=data
TESTS = $(or $(wildcard tests/$(ROOM) tests/test_$(ROOM).py),$(error there are no tests of $(ROOM)))
test:
	pytest -n auto $(if $(ROOM),$(TESTS))

# Tests that take most of a minute each, and the largest networks.
soak:
	pytest -n auto -m soak

# Every entry point for untrusted bytes, for FUZZ_SECONDS each (3600 for a search overnight).
fuzz:
	FUZZ_SECONDS=$${FUZZ_SECONDS:-600} python -m tests.fuzz $(FUZZ_ARGUMENTS)

# Line coverage of each room, including subprocesses.
coverage:
	pytest -n auto --cov --cov-report=json:.coverage.json
	python -m tools.coverage_by_room .coverage.json

# The wheel, and its bill of materials as CycloneDX.
wheel:
	python -m build --wheel
	python -m tools.sbom

# The wheel in fresh environments below WORK: with today's versions, and with the oldest supported ones.
WORK ?= /tmp/tellapart-wheel
try-wheel:
	WORK=$(WORK) .ci/wheel
try-lowest:
	WORK=$(WORK) .ci/lowest

# Each extra alone, in an environment of its own: half an hour.
try-extras:
	python -m tools.extras

# The image of the Dockerfile, built and tried by podman: RUN=runs/demo-1 IMAGE=photo.jpg make try-image
try-image: wheel
	.ci/image

# After changing a version bound in pyproject.toml, and regularly.
constraints:
	python -m tools.constraints

# Known vulnerabilities of the versions in constraints/; says so if no service can be reached.
audit:
	python -m tools.audit

# The files of a release, in dist/; nothing is published. TAG is v and the version.
release:
	python -m tools.release $(TAG)

bench:
	python -m benchmarks

docs:
	python -m mkdocs build --strict
