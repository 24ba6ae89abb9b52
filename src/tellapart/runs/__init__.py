"""One folder a run: create, open, list; every file name of a run in one place."""
