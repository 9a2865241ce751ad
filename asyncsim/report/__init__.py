"""Compare runs: what differs between them, where their timelines part, and an HTML page about all of them."""

from asyncsim.report.differences import compare_runs
from asyncsim.report.listing import list_runs
from asyncsim.report.page import write_report

__all__ = ["compare_runs", "list_runs", "write_report"]
