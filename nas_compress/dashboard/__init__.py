"""View of a run in optuna-dashboard."""
