"""Where numeric tests compute: ``ASYNCSIM_TEST_DEVICE`` names a device of PyTorch's, the CPU unless it is set.

On another device sums are taken in another order than on the CPU, so what is compared between kernels gets more room there.
"""

from __future__ import annotations

import os

import pytest

DEVICE = os.environ.get("ASYNCSIM_TEST_DEVICE", "cpu")
SLACK = 1.0 if DEVICE == "cpu" else 100.0
"""Times the tolerance in double precision that holds on a CPU."""
cpu_only = pytest.mark.skipif(DEVICE != "cpu", reason=f"about the CPU, and ASYNCSIM_TEST_DEVICE is {DEVICE}")
