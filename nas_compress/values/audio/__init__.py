"""Sounds as numbers, without a framework."""
