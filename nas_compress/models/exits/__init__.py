"""Early exits of networks: branches, classifiers, gates and thresholds."""
