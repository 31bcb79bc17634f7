"""Design: what will be trained, from a user's code to a frozen plan."""
