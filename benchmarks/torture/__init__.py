"""A machine that looks for the next fault: random scenarios, independent checks, shrinking, a ledger (see docs/torture.md)."""
