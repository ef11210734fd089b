"""Sends an order and waits for what a job says to it."""

from __future__ import annotations

import time
from collections.abc import Sequence

from confluent_kafka import TopicPartition

from schemas.alert_orders import MAX_ORDERS, AnyOrder, order_key
from schemas.live_settings import SettingsAck
from sightflow.errors import SightflowError
from sightflow.progress import Progress
from sightflow.settings.arguments import shown
from sightflow.settings.topic import SettingsTopics


class Refused(SightflowError):
    """A job did not take an order."""


def send_and_wait(topics: SettingsTopics, order: AnyOrder, done: str, timezone: str, wait_s: float) -> int:
    """Send an order; return the exit status. `done`: what is so once it holds.

    Raises:
        Refused: a job does not take it.
        SightflowError: Kafka did not take it, or no job has answered.
    """
    with Progress.to_stdout() as progress:
        since = topics.ends()
        with progress.step("send the order"):
            topics.send_order(order, too_old(topics.order_keys(order.site)))
        with progress.step("wait for a job to take it"):
            answer = _wait(topics, order, since, wait_s)
    return tell(order, answer, done, timezone, wait_s)


def too_old(keys: Sequence[str]) -> list[str]:
    """Return the keys of those orders, oldest first, that go when one more comes."""
    return list(keys[: max(0, len(keys) + 1 - MAX_ORDERS)])


def _wait(topics: SettingsTopics, order: AnyOrder, since: list[TopicPartition], wait_s: float) -> SettingsAck | None:
    key, deadline_s = order_key(order), time.monotonic() + wait_s
    for ack in topics.answers(lambda ack: ack.order == key, since):
        if ack is not None or time.monotonic() > deadline_s:
            return ack
    return None


def tell(order: AnyOrder, answer: SettingsAck | None, done: str, timezone: str, wait_s: float) -> int:
    """Say what came of an order; return the exit status. Raises Refused, or SightflowError where no job has answered."""
    if answer is None:
        raise SightflowError(
            f"no job has answered within {wait_s:g} s; the order is on the topic, and a job that reads it will take it",
            "does a job run? sightflow status (one from before orders does not know them: submit it anew)",
        )
    if answer.status == "failure":
        raise Refused("the order is refused:\n" + "\n".join(f"  {e.path}: {e.problem}" for e in answer.errors))
    print(f"from {shown(order.from_us, timezone)} on: {done}")
    return 0
