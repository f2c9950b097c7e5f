"""Run folders: records, the front, its files and bundles."""
