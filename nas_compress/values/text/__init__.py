"""Texts as numbers, without a framework."""
