"""Raw data sets as NumPy arrays: built into packages, or brought by the user. Nothing is ever downloaded."""
