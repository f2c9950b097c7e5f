"""Confirmation: front members trained again with other seeds, then measured once on the test split."""
