"""A process that reads databases as `edge.signals.loading` does, each in a fork of its own with the same limits.

So ten thousand files don't pay for ten thousand starts of Python. Takes a path a line; answers with a line
of JSON: exit status, CPU seconds, peak memory in bytes, and has the answer in PATH.out.
"""

import json
import os
import sys
from pathlib import Path

sys.modules["asammdf"] = None  # type: ignore[assignment]  # as where loading runs as a program
import cantools.database  # noqa: E402, F401

from edge.signals import loading  # noqa: E402


def read(path: Path) -> dict[str, float]:
    pid = os.fork()
    if pid == 0:
        try:
            out = os.open(f"{path}.out", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(out, 1)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            loading.main(path)
            sys.stdout.flush()
            os._exit(0)
        except BaseException:
            os._exit(1)
    _, status, used = os.wait4(pid, 0)
    return {
        "status": os.waitstatus_to_exitcode(status),
        "cpu_s": used.ru_utime + used.ru_stime,
        "bytes": used.ru_maxrss * 1024,
    }


for line in sys.stdin:
    print(json.dumps(read(Path(line.strip()))), flush=True)
