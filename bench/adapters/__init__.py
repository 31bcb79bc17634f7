"""Adapters: trainings of other frameworks as trials; each file imports its own."""
