"""What becomes of a delivery: the three outcomes, and the policy that chooses a delay or gives up. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass


class TransientError(Exception):
    """It failed now and may work later: the message is tried again after a delay."""


class OutcomeUnknown(TransientError):
    """There was no answer: the effect may have happened or not. Not tried again within the same attempt."""


class PermanentError(Exception):
    """It can never work: the message is dead-lettered at once. `reason` is the word for the dead letter."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class NotReady(Exception):
    """Something that this service itself needs is away: the delivery is held until it is back, and costs nothing."""


@dataclass(frozen=True, slots=True)
class Ack:
    """The work is done and durable. `duplicate`: it was found done already."""

    duplicate: bool = False


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again after `delay_seconds`, from the retry queue of that delay; as the next attempt, or the same again."""

    delay_seconds: float
    error: str
    spends_attempt: bool = True


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Park it, with the reason (one word) and the error (a sentence)."""

    reason: str
    error: str


Outcome = Ack | Retry | DeadLetter

DONE = Ack()
DUPLICATE = Ack(duplicate=True)


@dataclass(frozen=True)
class RetryPolicy:
    """One more attempt after each delay; so attempts at the most = delays + 1."""

    delays_seconds: Sequence[float]

    def after_failure(self, attempt: int, error: str) -> Retry | DeadLetter:
        """The outcome of a failed `attempt` (from 1)."""
        if attempt <= len(self.delays_seconds):
            return Retry(self.delays_seconds[attempt - 1], error)
        return DeadLetter("attempts-exhausted", error)

    def after_hold(self, error: str) -> Retry:
        """The outcome of a delivery that was held for too long. Expects that there is a delay."""
        return Retry(self.delays_seconds[0], error, spends_attempt=False)
