"""Devices on which exported files are checked and timed."""
