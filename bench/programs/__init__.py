"""A user's own program as a training: a command with a seed, in any language."""
