"""Trials: one candidate, one seed, one outcome."""
