"""A device reached by a command, such as ssh: frames over standard input and output, and the agent that answers."""
