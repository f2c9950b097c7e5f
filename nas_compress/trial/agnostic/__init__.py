"""Task-agnostic students: features of a pretrained encoder first, labels after."""
