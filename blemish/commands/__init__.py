"""The work behind the command line: one file a verb, each with one function ``run``."""
