"""What the command line can do: one file for each command, with its arguments and its work."""
