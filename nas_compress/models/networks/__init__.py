"""Networks of the families: one module per family."""
