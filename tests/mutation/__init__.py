"""Mutation testing: which small faults in the code do its tests find? See `__main__`."""
