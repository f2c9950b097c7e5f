"""Mirror of a study for optuna-dashboard."""
