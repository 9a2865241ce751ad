"""Evidence that the clock is right: closed forms, real processes, published figures. Run by ``benchmarks/validate.py``."""
