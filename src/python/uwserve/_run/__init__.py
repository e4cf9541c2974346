"""The life of a server: where it listens, which thread and event loop run it, how it starts and stops."""
