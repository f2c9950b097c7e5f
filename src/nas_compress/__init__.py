"""Search small, fast students of a trained network; every point is trained from scratch and measured on its file."""

__version__ = "0.1.0"
