"""The ways, from file to file: each has its wrong part alone, and all else from `order_rail.py`, the right one."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

FOLDER = Path("control_room/experiments/lab/ways")


class SystemName(StrEnum):
    """What carries the messages."""

    RABBITMQ = "rabbitmq"
    REDIS = "redis"
    SQS = "sqs"
    """An emulation, with promises to be tried in place of ways."""


RABBITMQ, REDIS, SQS = SystemName
RIGHT: dict[str, str] = {RABBITMQ: "order-rail", REDIS: "redis-stream"}
"""The right way of each."""

GROUP = "workers"
"""Of the streams in Redis."""


@dataclass(frozen=True)
class Way:
    """`damage`: what it does to orders, whenever the faults are injected. `why`: the paragraph that explains it.

    `refused`: why its queues may not be declared, where a version of the system does not take them.
    """

    name: str
    title: str
    damage: frozenset[str]
    why: str
    system: SystemName
    refused: str = ""

    @property
    def lines(self) -> str:
        """The file that did it."""
        words = self.name.removeprefix(f"{self.system}-").replace("-", "_")
        return str((FOLDER if self.system == RABBITMQ else FOLDER / self.system) / f"{words}.py")

    @property
    def module(self) -> str:
        return self.lines.removesuffix(".py").replace("/", ".")


def _way(name: str, title: str, damage: str, why: str, system: SystemName = RABBITMQ, refused: str = "") -> Way:
    return Way(name, title, frozenset(damage.split()), f"docs/{why}", system, refused)


WAYS = {
    way.name: way
    for way in (
        _way("fire-and-forget", "publish without a confirm", "lost", "concepts/delivery.md#fire-and-forget"),
        _way("commit-then-publish", "commit, then publish: no outbox", "lost",
             "concepts/delivery.md#commit-then-publish"),
        _way("publish-then-commit", "publish, then commit", "unasked", "concepts/delivery.md#publish-then-commit"),
        _way("auto-ack", "acknowledge by being sent", "lost", "concepts/delivery.md#automatic-acknowledgement"),
        _way("ack-first", "acknowledge, then work", "lost", "concepts/delivery.md#acknowledge-then-work"),
        _way("without-key", "work, then acknowledge, without a key", "duplicated",
             "concepts/delivery.md#work-then-acknowledge-without-a-key"),
        _way("in-memory", "a queue that is not durable", "lost",
             "concepts/queues.md#a-queue-that-is-not-durable",
             refused="this RabbitMQ takes no queue that is not durable, as from version 4.3 on"),
        _way("requeue-for-ever", "put back what fails, for ever", "stuck",
             "concepts/dead-letters.md#put-back-for-ever"),
        _way("retry-at-once", "try again without a delay", "stuck", "concepts/dead-letters.md#try-again-at-once"),
        _way("one-queue", "one queue for every kind of work", "stuck",
             "concepts/load.md#one-queue-for-everything"),
        _way("order-rail", "Order Rail's way", "", "guarantees.md#messages"),
        _way("redis-list", "RPOP from a list", "lost", "lab.md#a-list-as-a-queue", REDIS),
        _way("redis-without-group", "XREAD without a group", "lost", "lab.md#a-stream-without-a-group", REDIS),
        _way("redis-ack-first", "XACK, then work", "lost", "lab.md#xack-then-work", REDIS),
        _way("redis-without-key", "work, then XACK, without a key", "duplicated", "lab.md#work-then-xack-without-a-key",
             REDIS),
        _way("redis-never-claimed", "what is pending is never claimed", "stuck", "lab.md#never-claimed", REDIS),
        _way("redis-stream", "a group, a key, XACK after work, claims", "", "lab.md#the-right-way-on-redis", REDIS),
    )
}  # fmt: skip
