"""Worker processes that train trials in parallel."""
