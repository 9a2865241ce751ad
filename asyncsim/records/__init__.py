"""Records: the rows of a run's tables, the recorder that collects them, the run folder, and the result that is read from it."""

from asyncsim.records.directory import RunDirectory
from asyncsim.records.reading import read_manifest
from asyncsim.records.recorder import Recorder
from asyncsim.records.result import Result, load_result
from asyncsim.records.rows import EVENT_KINDS, OUTCOMES

__all__ = ["EVENT_KINDS", "OUTCOMES", "Recorder", "Result", "RunDirectory", "load_result", "read_manifest"]
