"""Checks before a study starts, used by `check` and `run`."""
