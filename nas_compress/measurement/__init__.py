"""Figures of exported files, measured with the target runtime."""
