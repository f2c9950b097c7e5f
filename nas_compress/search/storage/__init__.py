"""Optuna's storage, recovery after a stop, and hosts of a shared study."""
