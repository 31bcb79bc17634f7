"""Other people's results as tables."""
