"""Is the model right as often as it says?"""
