"""Masks for prompts on a picture, and the library calls behind ``segment`` and ``run``."""
