"""The literature's names, one file a paper: its equation and source, the parts that it alone has, and the bundle that a scenario
names.

A file is found because it is in this folder; there is no list to add it to. Four files hold no paper but what several share:
``method`` (what a method is), ``fitting`` (what it does not go with), ``local_steps`` and ``pipelines`` (methods of one family).
Parts that several papers share (means of pushes, rules of staleness, schedules, optimisers of the textbooks) are in
`asyncsim.policies`, rules for reading in `asyncsim.consistency`, programs in `asyncsim.simulation`.

Symbols in the equations: ``theta`` the server's parameters at an arrival, ``s`` the snapshot that the worker had read, ``g`` the
gradient that it computed there, ``tau`` the staleness (updates between read and arrival), ``d`` what enters the momentum,
``lr`` the optimiser's rate times the schedule's factor at the arrival, ``N`` workers, ``K`` stages counted from 1. Sums and
products of vectors are elementwise. What is called recalled was written from memory of the paper and not checked against its
text.
"""

from importlib import import_module
from pkgutil import iter_modules

from asyncsim.methods.method import Bundle, Method

__all__ = ["Bundle", "Method"]

for _file in iter_modules(__path__):
    import_module(f"{__name__}.{_file.name}")
