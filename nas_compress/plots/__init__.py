"""Pictures of fronts and of progress."""
