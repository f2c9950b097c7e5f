"""Figures of exported files, taken by the runtime that will run them, and counts of torch modules."""
