"""Two times of a trial: real seconds since the arm began, and the hospital's own, which pass faster by a factor."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Clock:
    """Begins when it is made."""

    accelerate: float
    """Hospital seconds in a real second."""
    began: float = field(default_factory=time.time)
    """Seconds since the epoch."""
    stopped: threading.Event = field(default_factory=threading.Event)
    """Set when the trial is given up: sleepers wake."""
    _zero: float = field(default_factory=time.monotonic)

    def now_s(self) -> float:
        """Real seconds since the beginning."""
        return time.monotonic() - self._zero

    def hospital_s(self) -> float:
        """Hospital seconds since the beginning."""
        return self.now_s() * self.accelerate

    def real_s(self, hospital_s: float) -> float:
        """How long so many hospital seconds last."""
        return hospital_s / self.accelerate

    def sleep(self, hospital_s: float) -> None:
        """Wait so many hospital seconds, or until the trial is given up."""
        self.stopped.wait(max(0.0, self.real_s(hospital_s)))

    def pause_s(self, real_s: float) -> bool:
        """Wait real seconds; whether the trial was given up meanwhile."""
        return self.stopped.wait(real_s)
