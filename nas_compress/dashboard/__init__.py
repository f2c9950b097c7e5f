"""optuna-dashboard on the storage of a run."""
