"""The command line: arguments in, exit code out. Data on stdout, log and progress on stderr."""
