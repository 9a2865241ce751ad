"""Every run of the suite is verified while it goes on, also in processes that tests start."""

from __future__ import annotations

import os

os.environ.setdefault("ASYNCSIM_VERIFY", "1")
