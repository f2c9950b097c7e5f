"""Code that runs a file of one task, as the example of a bundle."""
