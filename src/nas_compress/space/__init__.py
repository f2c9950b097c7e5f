"""Search spaces: one file each, one function `suggest(trial) -> Candidate` in Optuna's define-by-run idiom."""
