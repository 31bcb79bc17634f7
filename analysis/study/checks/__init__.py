"""What must be read before a result is quoted."""
