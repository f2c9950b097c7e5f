"""What a person looks at: the front as pictures and as tables."""
