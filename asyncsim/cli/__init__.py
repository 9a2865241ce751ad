"""The command line: ``asyncsim <command>``. Exit codes: 0 done, 1 a run failed, 2 bad input, 130 interrupted."""

from asyncsim.cli.main import main

__all__ = ["main"]
