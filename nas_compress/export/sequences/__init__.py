"""Parts of files that read sequences of tokens."""
