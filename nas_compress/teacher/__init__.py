"""The teacher: trained once or brought along, kept with a fingerprint, its answers cached."""
