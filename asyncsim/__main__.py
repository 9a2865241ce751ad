"""The command ``asyncsim``, also as ``python -m asyncsim``."""

import signal
import sys

from asyncsim.stopping import SIGNALS, exit_code, stoppable, undisturbed


def main() -> int:
    """Run the command line. Signals are handled from the first moment on, also while the command line itself is still being
    imported."""
    try:
        with stoppable():
            try:
                with undisturbed():
                    from asyncsim.cli import main as command_line
                return command_line()
            except KeyboardInterrupt:
                print("asyncsim: interrupted", file=sys.stderr)
                return exit_code()
    finally:
        for number in SIGNALS:  # nothing is left to be saved
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, signal.SIG_DFL)


if __name__ == "__main__":
    sys.exit(main())
