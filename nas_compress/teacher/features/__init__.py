"""Intermediate features of a teacher, stored for every training sample in every view."""
