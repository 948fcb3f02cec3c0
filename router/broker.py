"""What router and workers share of the broker: the Celery application's settings and the task's name.

Next: dispatch.py (the router's side), workers/app.py (the workers').
"""

from __future__ import annotations

from celery import Celery

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
