"""Traces: a run as a file that Perfetto and ``chrome://tracing`` open."""

from asyncsim.trace.export import write_trace

__all__ = ["write_trace"]
