"""Early exits as values: the settings of a candidate and the figures of its file."""
