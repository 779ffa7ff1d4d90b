"""Evaluations and training runs as text for a terminal."""
