# One command for all checks: make check
.PHONY: check lint types test wheel bench docs

check: lint types test

lint:
	ruff check .
	ruff format --check .

types:
	mypy

test:
	pytest -n auto

wheel:
	python -m build --wheel

bench:
	python -m benchmarks

docs:
	python -m mkdocs build --strict
