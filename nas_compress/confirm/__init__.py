"""Confirmation: retrain front members with new seeds and measure them once on the test split."""
