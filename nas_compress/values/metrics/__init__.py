"""The table of metrics and its rows."""
