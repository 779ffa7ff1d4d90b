"""Checkpoint files: the manifest of the known ones, downloads, and reading files that may be hostile."""
