"""Targets that one file describes."""
