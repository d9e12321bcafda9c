"""SQS: four of its promises about deliveries, each tried on an emulation of it (moto).

An emulation shows semantics alone: nothing here says how fast SQS is, or what it loses.
"""

import json
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from rich.table import Table
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from control_room.experiments.lab import LabFailed
from control_room.launcher.children import death_pact
from control_room.launcher.ports import free_ports

MISSING = "The emulation of SQS is not installed: in the clone, .venv/bin/pip install -e '.[sqs]'"
LABEL = "SQS, emulated by moto: semantics alone, no figures of speed or durability"
START_SECONDS, LONG_POLL_SECONDS = 60.0, 5

Message = dict[str, Any]


@dataclass(frozen=True)
class Queue:
    """A new queue; `sqs` is a client of boto3, which has no types."""

    sqs: Any
    url: str

    @classmethod
    def new(cls, sqs: Any, suffix: str = "", **attributes: str) -> "Queue":
        name = f"lab-{uuid.uuid4().hex[:8]}{suffix}"
        return cls(sqs, sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"])

    @property
    def arn(self) -> str:
        """The name by which another queue's settings refer to it."""
        found = self.sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=["QueueArn"])
        return str(found["Attributes"]["QueueArn"])

    def send(self, body: str, **options: str) -> None:
        self.sqs.send_message(QueueUrl=self.url, MessageBody=body, **options)

    def receive(self, wait_seconds: int = 0) -> Message:
        """One message, with how often it was received; empty if none is visible within so long."""
        got = self.sqs.receive_message(
            QueueUrl=self.url, WaitTimeSeconds=wait_seconds, AttributeNames=["ApproximateReceiveCount"]
        )
        first: Message = next(iter(got.get("Messages", ())), {})
        return first

    def delete(self, message: Message) -> None:
        self.sqs.delete_message(QueueUrl=self.url, ReceiptHandle=message["ReceiptHandle"])


def visibility_timeout(sqs: Any) -> str:
    queue = Queue.new(sqs, VisibilityTimeout="1")
    queue.send("order 1")
    queue.receive()
    hidden, again = not queue.receive(), queue.receive(LONG_POLL_SECONDS)
    expect(hidden and again["Attributes"]["ApproximateReceiveCount"] == "2", "received again after a second")
    return "received, hidden from others, and a second later received again: slow work is done twice"


def max_receive_count(sqs: Any) -> str:
    dead = Queue.new(sqs)
    policy = json.dumps({"deadLetterTargetArn": dead.arn, "maxReceiveCount": "2"})
    queue = Queue.new(sqs, VisibilityTimeout="0", RedrivePolicy=policy)
    queue.send("poison")
    received = [bool(queue.receive()) for _ in range(3)]
    parked = dead.receive(LONG_POLL_SECONDS)
    expect(received == [True, True, False] and bool(parked), "moved away at the third attempt")
    queue.send(parked["Body"])
    dead.delete(parked)
    expect(queue.receive()["Body"] == "poison", "received again after it was sent back")
    return "received twice, then moved to the dead letter queue, without a reason; sent back, it is received again"


def message_groups(sqs: Any) -> str:
    queue = Queue.new(sqs, ".fifo", FifoQueue="true", ContentBasedDeduplication="true")
    for body in ("a1", "b1"):
        queue.send(body, MessageGroupId=body[0])
    first = queue.receive()
    queue.send("a2", MessageGroupId="a")
    second = queue.receive()
    queue.delete(first)
    third = queue.receive()
    order = [message.get("Body") for message in (first, second, third)]
    expect(order == ["a1", "b1", "a2"], f"a1, b1, a2 in turn, and not {order}")
    return "a2 waits until a1 is deleted, and b1 does not wait: in sequence within a group, in parallel across groups"


def deduplication(sqs: Any) -> str:
    queue = Queue.new(sqs, ".fifo", FifoQueue="true")
    for body in ("sent", "sent again"):
        queue.send(body, MessageGroupId="a", MessageDeduplicationId="order-1")
    first = queue.receive()
    queue.delete(first)
    expect(first["Body"] == "sent" and not queue.receive(), "one message of two with the same id")
    return "two sends with one id are one message, if less than five minutes apart; a delivery may still be repeated"


@dataclass(frozen=True)
class Promise:
    """`attempt` returns what was seen, and raises LabFailed if that was not promised. `here`: what Order Rail has."""

    title: str
    attempt: Callable[[Any], str]
    here: str


PROMISES = (
    Promise("Visibility timeout", visibility_timeout, "acknowledgements: a message comes again when its consumer dies"),
    Promise("maxReceiveCount, redrive", max_receive_count, "attempts with delays, dead letters with their reason"),
    Promise("FIFO message groups", message_groups, "partitions: a key's events in sequence, docs/scaling.md"),
    Promise("Deduplication id", deduplication, "the record has the idempotency key as its primary key, for ever"),
)


def expect(seen: object, promised: str) -> None:
    """Raises LabFailed, with what was promised, if it was not seen."""
    if not seen:
        raise LabFailed(f"the emulation did not do what SQS promises: {promised}")


def missing() -> str:
    """Why it can't run here; empty if it can."""
    return "" if find_spec("moto") and find_spec("boto3") and find_spec("flask") else MISSING


def try_all() -> Table:
    """Each promise with what was seen of it. Raises LabFailed."""
    table = Table("promise", "seen", "in Order Rail", title=LABEL, title_justify="left")
    with emulation() as sqs:
        for promise in PROMISES:
            table.add_row(promise.title, promise.attempt(sqs), promise.here)
    return table


@contextmanager
def emulation() -> Iterator[Any]:
    """A client of an SQS of its own, on a free port of this machine, which ends with the block. Raises LabFailed."""
    import boto3  # noqa: PLC0415 - an extra
    import botocore.exceptions  # noqa: PLC0415 - an extra

    (port,) = free_ports(1)
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(  # noqa: S603
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=death_pact(),  # noqa: PLW1509 - this process has one thread
    )
    try:
        sqs = boto3.client(
            "sqs",
            endpoint_url=f"http://127.0.0.1:{port}",
            region_name="us-east-1",
            aws_access_key_id="none",
            aws_secret_access_key="none",  # noqa: S106 - the emulation asks for none
        )
        for attempt in Retrying(
            retry=retry_if_exception_type(botocore.exceptions.BotoCoreError),
            wait=wait_fixed(0.2),
            stop=stop_after_delay(START_SECONDS),
            reraise=True,
        ):
            with attempt:
                sqs.list_queues()
        yield sqs
    except botocore.exceptions.BotoCoreError as error:
        raise LabFailed(f"the emulation does not answer: {error}") from None
    finally:
        server.kill()
        server.wait()
