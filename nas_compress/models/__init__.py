"""Student families: networks built from an architecture value, for any input size and channel count."""
