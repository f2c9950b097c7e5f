"""The search: Optuna's study held, not wrapped. No other package imports Optuna."""

from nas_compress.optional_imports import broken_counts_as_missing

with broken_counts_as_missing("redis"):
    import optuna  # noqa: F401
