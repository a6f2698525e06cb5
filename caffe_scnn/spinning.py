"""How long threads that wait for each other keep their processors busy."""

from __future__ import annotations

import os

# Some 1.4 ms on Intel's processors and perhaps 0.5 on AMD's: longer than serial steps of a net and
# than most waits for other threads. With a tenth of it they sleep within nets, and wake too late.
SPINS = 30_000


def limit_spinning() -> None:
    """Let OpenMP's threads give up their processors soon, unless the user has decided otherwise.

    By default GNU's OpenMP asks 300,000 times whether the others are done, 14 ms on Intel's
    processors, before it lets the system run something else: perhaps the very thread it waits for,
    where other programs have taken its processor. It reads the environment when it is loaded, so
    this comes before the kernels are.
    """
    if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys():
        os.environ["GOMP_SPINCOUNT"] = str(SPINS)
