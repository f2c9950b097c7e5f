"""A folder that search spaces of earlier versions import."""
