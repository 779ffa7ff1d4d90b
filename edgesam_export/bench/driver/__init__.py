"""The loop that drives a run: starts it, watches it, tries again, fetches what there is."""
