"""Data of several tasks: the same inputs with labels of each task."""
