"""Execution: how the trainings of a plan are run, each in a process of its own."""
