"""Writers of the files that runtimes read."""
