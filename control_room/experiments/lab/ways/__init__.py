"""The ways, from file to file: each has its wrong part alone, and all else from `order_rail.py`, the right one."""

from dataclasses import dataclass
from pathlib import Path

FOLDER = Path("control_room/experiments/lab/ways")


@dataclass(frozen=True)
class Way:
    """`damage`: what it does to orders, whenever the faults are injected. `why`: the paragraph that explains it."""

    name: str
    title: str
    damage: frozenset[str]
    why: str

    @property
    def module(self) -> str:
        return self.name.replace("-", "_")

    @property
    def lines(self) -> str:
        """The file that did it."""
        return str(FOLDER / f"{self.module}.py")


def _way(name: str, title: str, damage: str, why: str) -> Way:
    return Way(name, title, frozenset(damage.split()), f"docs/{why}")


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
             "concepts/queues.md#a-queue-that-is-not-durable"),
        _way("requeue-for-ever", "put back what fails, for ever", "stuck",
             "concepts/dead-letters.md#put-back-for-ever"),
        _way("retry-at-once", "try again without a delay", "stuck", "concepts/dead-letters.md#try-again-at-once"),
        _way("one-queue", "one queue for every kind of work", "stuck",
             "concepts/load.md#one-queue-for-everything"),
        _way("order-rail", "Order Rail's way", "", "guarantees.md#messages"),
    )
}  # fmt: skip
