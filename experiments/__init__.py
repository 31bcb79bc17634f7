"""experiments: those that come with bench; `digits` is the one to copy."""
