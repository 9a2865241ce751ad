"""The command line: ``asyncsim <command>``. Exit codes: 0 done, 1 a run failed, 2 bad input, 128 and the number of the
signal that ended it (130 Ctrl-C, 143 SIGTERM, 129 SIGHUP, 141 nobody read its output)."""

from asyncsim.cli.main import main

__all__ = ["main"]
