"""What several passes say: patterns, and rules that they share."""
