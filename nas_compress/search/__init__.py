"""The search: Optuna's study held, not wrapped. No other package imports Optuna."""
