"""Runs a command for as long as standard input is open: a server must not outlive the run that started it.

python child_guard.py COMMAND ...

The run holds the other end of the pipe, so that even its death by SIGKILL ends the command and all its children.
"""

import os
import signal
import subprocess
import sys
import threading

GRACE_S = 20
"""Time to end in peace."""


def keep(command: list[str]) -> int:
    """Run `command` in a process group of its own until it or standard input ends; return its code (128 + signal)."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)

    def end_with_input() -> None:
        while os.read(0, 1):
            pass
        _end(process)

    def end_on_signal(*_: object) -> None:
        # Not here: the handler interrupts the wait below, which holds what another wait needs.
        threading.Thread(target=_end, args=(process,), daemon=True).start()

    threading.Thread(target=end_with_input, daemon=True).start()
    signal.signal(signal.SIGTERM, end_on_signal)
    try:
        code = process.wait()
        return code if code >= 0 else 128 - code
    finally:
        _signal(process, signal.SIGKILL)  # a child may outlive its leader


def _end(process: subprocess.Popen[bytes]) -> None:
    _signal(process, signal.SIGTERM)
    try:
        process.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        _signal(process, signal.SIGKILL)


def _signal(process: subprocess.Popen[bytes], signum: int) -> None:
    try:
        os.killpg(process.pid, signum)  # its own session: the group has its number
    except ProcessLookupError:
        return


if __name__ == "__main__":
    sys.exit(keep(sys.argv[1:]))
