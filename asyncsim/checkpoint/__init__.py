"""Checkpoints: what they hold, when they are written, and how a run goes on from one to the same bits."""
