"""Tables and a plan in, findings out."""
