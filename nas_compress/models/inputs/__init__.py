"""First modules of networks, for inputs that are no numbers of one scale."""
