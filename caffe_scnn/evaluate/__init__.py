"""Is a net right, how good is it, how fast: comparison, classification, timing."""
