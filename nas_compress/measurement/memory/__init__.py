"""Memory of one run of a file, computed from its graph."""
