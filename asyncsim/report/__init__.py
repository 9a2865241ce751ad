"""Reading runs side by side: what differs, where timelines part, and a page that holds it all."""

from asyncsim.report.differences import compare_runs
from asyncsim.report.listing import list_runs
from asyncsim.report.page import write_report

__all__ = ["compare_runs", "list_runs", "write_report"]
