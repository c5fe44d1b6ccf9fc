"""How passes run: their registry, pipelines, the log of what rules did, and checks that a graph means the same."""
