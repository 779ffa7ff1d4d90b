"""Masks for prompts on an image, and the library calls behind ``segment`` and ``run``."""
