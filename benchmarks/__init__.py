"""Speed beside the peers: `python -m benchmarks [NAME ...]`. See docs/benchmarks.md."""
