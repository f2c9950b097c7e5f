"""Training from scratch: one loop that reads top to bottom, its schedule and its device."""
