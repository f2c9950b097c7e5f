"""Texts of a bundle: its README.md and the example that runs its file."""
