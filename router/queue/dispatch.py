"""Ring the workers' doorbell: a Celery message with the id of a job, or of an edit to compare, and nothing else.

The broker may lose every message: the sweeper compares what should be there (ledger) with what is (Redis).
Next: sweeper.py.
"""

from __future__ import annotations

import json
from typing import Any

import redis
from kombu.exceptions import OperationalError

from medai.router.contract import Priority
from medai.router.errors import BrokerUnreachable
from medai.router.queue.broker import COMPARE_TASK, PRIORITY_STEPS, SEPARATOR, TASK, make_celery
from medai.router.settings.tables import BrokerSettings


class Dispatcher:
    """The router's side of the broker."""

    def __init__(self, settings: BrokerSettings) -> None:
        self._app = make_celery(settings)
        self._redis: Any = redis.Redis.from_url(
            settings.url, socket_timeout=3, socket_connect_timeout=3, **settings.tls
        )

    def send(self, job_id: str, *, queue: str, priority: int) -> None:
        """Hand one job id to the broker; raises BrokerUnreachable at once when Redis is away."""
        self._ring(TASK, job_id, job_id, queue, priority)

    def send_edit(self, edit_id: int, *, queue: str) -> None:
        """Ask for the comparison of an edit, behind every reading; raises BrokerUnreachable."""
        self._ring(COMPARE_TASK, edit_id, edit_message(edit_id), queue, int(Priority.BACKGROUND))

    def _ring(self, task: str, number: str | int, message: str, queue: str, priority: int) -> None:
        try:
            self._app.send_task(
                task,
                args=[number],
                task_id=message,
                queue=queue,
                priority=priority,
                retry=False,
                ignore_result=True,
            )
        except (OperationalError, redis.RedisError, OSError) as error:
            raise BrokerUnreachable(f"Redis does not accept messages ({type(error).__name__})") from error

    def queued(self, queue: str) -> set[str]:
        """The jobs (and edits, as ``edit_message`` names them) whose messages wait in a queue.

        What Redis calls unacknowledged is not asked: a worker that was killed leaves its entries there for hours.
        """
        found = set()
        for step in PRIORITY_STEPS:
            name = queue if step == 0 else f"{queue}{SEPARATOR}{step}"
            for message in self._ask("lrange", name, "0", "-1"):
                found.add(str(json.loads(message)["headers"]["id"]))
        return found

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


def edit_message(edit_id: int) -> str:
    """The id of the message about an edit."""
    return f"edit-{edit_id}"
