"""Checkpoint files: the manifest of the known ones, downloads, and reading what may be hostile."""
