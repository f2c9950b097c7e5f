"""Series: windows of long recordings."""
