"""Folders of pictures: values without a framework."""
