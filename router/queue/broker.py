"""What router and workers share of the broker: the Celery application's settings and the tasks' names.

Next: dispatch.py (the router's side), workers/app.py (the workers').
"""

from __future__ import annotations

from typing import Any

from celery import Celery
from kombu.transport import redis as redis_transport
from kombu.transport import virtual

from medai.router.settings.tables import BrokerSettings

TASK = "medai.read"
COMPARE_TASK = "medai.compare"
PRIORITY_STEPS = (0, 3, 6, 9)
SEPARATOR = "\x06\x16"
"""kombu keeps the messages of priority n > 0 of a queue in the list "queue<SEPARATOR>n"."""


class FreeingQoS(redis_transport.QoS):  # type: ignore[misc]  # kombu has no types
    """Counts a message as acknowledged also when Redis did not hear of it.

    kombu counts it as still in hand, and Celery goes on without a word: a worker that may hold one message at a time
    then never takes another, though it lives. (Redis frozen for longer than the socket's patience does that.) What
    stays in Redis's list of unacknowledged messages is sent again in six hours, and there is nothing left to claim.
    """

    def ack(self, delivery_tag: Any) -> None:
        """Also called for a message that is rejected."""
        try:
            super().ack(delivery_tag)
        except Exception:  # whatever went wrong is told by Celery; the message is no longer in hand
            virtual.QoS.ack(self, delivery_tag)
            raise

    def reject(self, delivery_tag: Any, requeue: bool = False) -> None:
        """As ``ack``."""
        try:
            super().reject(delivery_tag, requeue=requeue)
        except Exception:  # as above
            virtual.QoS.ack(self, delivery_tag)
            raise


def make_celery(settings: BrokerSettings) -> Celery:
    """The Celery application that router and workers share: JSON, no results, priorities, one message in hand."""
    redis_transport.Channel.QoS = FreeingQoS
    app = Celery("medai", broker=settings.url, set_as_current=False)
    if settings.tls:
        app.conf.broker_use_ssl = settings.tls  # kombu verifies nothing unless it is told to
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
