"""A worker hears of the next job whatever became of its last acknowledgement: on a real Redis that freezes."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
from kombu import Consumer, Queue
from servers import Server, make_redis, running, wait_for

from medai.router.queue.broker import make_celery
from medai.router.settings.tables import BrokerSettings


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Server]:
    with running(make_redis(tmp_path / "redis")) as server:
        yield server


def test_a_message_whose_acknowledgement_got_lost_does_not_make_its_worker_deaf(redis: Server) -> None:
    assert redis.process is not None
    app = make_celery(BrokerSettings(url=f"redis://127.0.0.1:{redis.port}/0"))
    app.conf.broker_transport_options = {**app.conf.broker_transport_options, "socket_timeout": 0.5}
    heard: SimpleQueue[Any] = SimpleQueue()
    with app.connection_for_read() as connection:
        channel = connection.channel()
        consumer = Consumer(channel, [Queue("cpu")], callbacks=[lambda _body, message: heard.put(message)])
        consumer.qos(prefetch_count=1)
        for name in ("one", "two"):
            app.send_task("medai.read", args=[name], task_id=name, queue="cpu", priority=6)

        def next_one() -> Any:
            def look() -> bool:
                try:
                    connection.drain_events(timeout=0.2)
                except (TimeoutError, *connection.connection_errors):
                    pass  # nothing yet, or a connection that is made again
                return not heard.empty()

            wait_for(look, within_s=15, what="a message")
            return heard.get()

        with consumer:
            first = next_one()
            redis.process.send_signal(signal.SIGSTOP)
            with pytest.raises(connection.connection_errors):
                first.ack()
            redis.process.send_signal(signal.SIGCONT)
            assert channel.qos.can_consume()
            assert next_one().headers["id"] == "two"
    app.close()
