"""``python -m asyncsim``."""

import sys

from asyncsim.cli import main

sys.exit(main())
