"""Early stopping under several objectives: rules on plain numbers, and an adapter for any Optuna study."""
