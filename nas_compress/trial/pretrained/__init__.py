"""Students of pretrained encoders: features first and labels after, or cuts in steps."""
