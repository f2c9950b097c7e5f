"""Pretrained encoders of BERT's kind: their weights, and training of their upper layers."""
