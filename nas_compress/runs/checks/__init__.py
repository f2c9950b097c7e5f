"""Checks of a run folder: checksums, plausible figures and older formats."""
