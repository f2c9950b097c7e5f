"""Study files and search spaces, checked when they are read."""
