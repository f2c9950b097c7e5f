"""One candidate, one seed, one outcome."""
