"""The public API, what `import tellapart` gives: one file per task. Composes the other packages and decides nothing."""
