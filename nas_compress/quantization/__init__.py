"""From a trained float network to one that computes, or is stored, in integers."""
