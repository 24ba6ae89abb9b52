"""What `import tellapart` gives, a file for each thing one does. Composes the rooms and decides nothing."""
