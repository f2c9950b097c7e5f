"""Samplers: propose the next candidate."""
