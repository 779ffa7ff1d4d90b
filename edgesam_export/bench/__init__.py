"""Benchmarks: a request, a run on a phone or on this machine, a record, and records side by side."""
