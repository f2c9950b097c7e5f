"""Loss terms as pure functions and modules, one table of them, and their weighted sum."""
