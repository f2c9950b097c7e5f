"""The report of a run: one self-contained HTML page."""

from nas_compress.optional_imports import broken_counts_as_missing

with broken_counts_as_missing("pandas", "redis"):
    import optuna.importance  # noqa: F401
