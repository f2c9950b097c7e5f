"""The run folder: what a study leaves on disk, and the front that is read from it. Needs no Optuna."""
