"""The teacher's vote on shape: its channel groups are ranked, what survives gives the student's widths."""
