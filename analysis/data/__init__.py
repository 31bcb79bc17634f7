"""The tables, and predictions to numbers."""
