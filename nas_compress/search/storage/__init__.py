"""Optuna's storage, recovery after a stop, and hosts that share a study."""
