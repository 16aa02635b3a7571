"""Wrapper process that ends a command when its standard input closes, so that a server never outlives its run.

python child_guard.py COMMAND ...

The run holds the other end of the pipe: even if it is killed by SIGKILL, the command and all its children end.
"""

import os
import signal
import subprocess
import sys
import threading

GRACE_S = 20
"""Time between SIGTERM and SIGKILL, in seconds."""


def run_guarded(command: list[str]) -> int:
    """Run `command` in its own process group until it ends or standard input closes.

    Return its exit code, 128 + the signal number if a signal ended it.
    """
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)

    def end_on_close() -> None:
        while os.read(0, 1):
            pass
        _end(process)

    def end_on_signal(*_: object) -> None:
        # In a thread: the handler interrupts process.wait() below, which holds the lock that _end would need.
        threading.Thread(target=_end, args=(process,), daemon=True).start()

    threading.Thread(target=end_on_close, daemon=True).start()
    signal.signal(signal.SIGTERM, end_on_signal)
    try:
        code = process.wait()
        return code if code >= 0 else 128 - code
    finally:
        _signal(process, signal.SIGKILL)  # children that outlived the command


def _end(process: subprocess.Popen[bytes]) -> None:
    _signal(process, signal.SIGTERM)
    try:
        process.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        _signal(process, signal.SIGKILL)


def _signal(process: subprocess.Popen[bytes], signum: int) -> None:
    try:
        os.killpg(process.pid, signum)  # start_new_session: the group id is the process id
    except ProcessLookupError:
        return


if __name__ == "__main__":
    sys.exit(run_guarded(sys.argv[1:]))
