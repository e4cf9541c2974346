"""Servers to look at and to try: ``uwserve chat``."""
