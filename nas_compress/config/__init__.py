"""The study file: values only, checked when read, frozen afterwards."""
