"""Python: what `bench compare`, `bench run` and `bench report` find, as values."""
