"""Loss terms: pure functions of (student, teacher, labels), one file each."""
