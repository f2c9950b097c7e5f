"""Pruning of channels, attention heads and blocks: importance, ranking, widths, and cutting of networks."""
