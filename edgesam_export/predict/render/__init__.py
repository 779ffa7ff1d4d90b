"""The profile of a run as files: a module for each format."""
