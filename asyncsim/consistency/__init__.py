"""Consistency rules: which worker may read now, and whose work in flight is called back."""

from asyncsim.consistency.progress import Power, Progress
from asyncsim.consistency.rules import ASP, BSP, SSP, Consistency, Heard, Lockstep, consistencies
from asyncsim.consistency.slots import CoRunningSlots

__all__ = ["ASP", "BSP", "SSP", "CoRunningSlots", "Consistency", "Heard", "Lockstep", "Power", "Progress", "consistencies"]
