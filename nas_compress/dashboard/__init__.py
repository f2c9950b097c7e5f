"""optuna-dashboard on the storage of a run."""

from nas_compress.optional_imports import broken_counts_as_missing

with broken_counts_as_missing("boto3", "google.cloud.storage", "redis"):
    import optuna.artifacts  # noqa: F401
