"""Ring the workers' doorbell: a Celery message with a job id and nothing else.

The broker may lose every message: the sweeper compares what should be there (ledger) with what is (Redis).
Next: sweeper.py.
"""

from __future__ import annotations

from typing import Any

import redis
from kombu.exceptions import OperationalError

from router.broker import PRIORITY_STEPS, SEPARATOR, TASK, make_celery
from router.errors import BrokerUnreachable
from router.settings import BrokerSettings


class Dispatcher:
    """The router's side of the broker."""

    def __init__(self, settings: BrokerSettings) -> None:
        self._app = make_celery(settings)
        self._redis: Any = redis.Redis.from_url(settings.url, socket_timeout=3, socket_connect_timeout=3)

    def send(self, job_id: str, *, queue: str, priority: int) -> None:
        """Hand one job id to the broker; raises BrokerUnreachable at once when Redis is away."""
        try:
            self._app.send_task(TASK, args=[job_id], queue=queue, priority=priority, retry=False, ignore_result=True)
        except (OperationalError, redis.RedisError, OSError) as error:
            raise BrokerUnreachable(f"Redis does not take messages ({type(error).__name__})") from error

    def waiting(self, queue: str) -> int:
        """Messages of a queue that no worker has taken yet."""
        names = [queue if step == 0 else f"{queue}{SEPARATOR}{step}" for step in PRIORITY_STEPS]
        return sum(int(self._ask("llen", name)) for name in names)

    def unacknowledged(self) -> int:
        """Messages that workers have taken and not finished, over all queues."""
        return int(self._ask("hlen", "unacked"))

    def ping(self) -> None:
        """Raises BrokerUnreachable when Redis is away."""
        self._ask("ping")

    def _ask(self, name: str, *arguments: str) -> Any:
        try:
            return getattr(self._redis, name)(*arguments)
        except redis.RedisError as error:
            raise BrokerUnreachable(f"Redis does not answer ({type(error).__name__})") from error

    def close(self) -> None:
        """Give the connections back."""
        self._redis.close()
        self._app.close()
