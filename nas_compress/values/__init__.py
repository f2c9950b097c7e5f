"""Frozen values of a study: candidate, architecture, metrics, outcome, front. No framework is imported here."""
