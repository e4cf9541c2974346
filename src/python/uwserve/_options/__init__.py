"""The options of a server: tables of names, checks and defaults, and the checks that need more than one line."""
