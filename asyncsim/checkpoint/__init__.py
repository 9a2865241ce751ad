"""Resume, bit for bit: what a checkpoint holds, when one is written, and how a run goes on from it."""
