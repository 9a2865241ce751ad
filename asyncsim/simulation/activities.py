"""What a worker may be at: an index into ``EVENT_KINDS``, or ``IDLE``."""

from asyncsim.records.rows import EVENT_KINDS

WAIT, DOWNLOAD, COMPUTE, UPLOAD, QUEUE, SERVE, DOWN, STOP, FORWARD, BACKWARD, INFERENCE = range(len(EVENT_KINDS))
IDLE = -1
