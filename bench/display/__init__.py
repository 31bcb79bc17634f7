"""What a person sees while it runs, and what is recorded so far."""
