"""The command line: arguments in, exit code out. Data goes to stdout, logs and progress to stderr."""
