"""A plug-in of tellapart: a backbone, a source and a command."""
