"""Ring the workers' doorbell: a Celery message with a job id and nothing else.

The broker may lose every message: the sweeper compares what should be there (ledger) with what is (Redis).
Next: sweeper.py.
"""

from __future__ import annotations

from typing import Any

import redis
from celery import Celery
from kombu.exceptions import OperationalError

from router.errors import BrokerUnreachable
from router.settings import BrokerSettings

TASK = "medai.read"
PRIORITY_STEPS = (0, 3, 6, 9)
SEPARATOR = "\x06\x16"
"""kombu keeps the messages of priority n > 0 of a queue in the list "queue<SEPARATOR>n"."""


def make_celery(settings: BrokerSettings) -> Celery:
    """The Celery application that router and workers share: JSON, no results, priorities, nothing prefetched."""
    app = Celery("medai", broker=settings.url, set_as_current=False)
    app.conf.update(
        accept_content=["json"],
        broker_connection_retry_on_startup=True,
        broker_connection_timeout=3,
        broker_transport_options={
            "priority_steps": list(PRIORITY_STEPS),
            "sep": SEPARATOR,
            "queue_order_strategy": "priority",
            "visibility_timeout": 6 * 3600,
            "socket_timeout": 5,
            "socket_connect_timeout": 3,
            "socket_keepalive": True,
        },
        enable_utc=True,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_create_missing_queues=True,
        task_default_priority=6,
        task_ignore_result=True,
        task_serializer="json",
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_hijack_root_logger=False,
        worker_prefetch_multiplier=1,
        worker_send_task_events=False,
    )
    return app


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
