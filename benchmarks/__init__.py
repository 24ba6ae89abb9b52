"""Speed compared with peers: `python -m benchmarks [NAME ...]`. See docs/benchmarks.md."""
