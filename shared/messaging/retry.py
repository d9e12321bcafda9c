"""The outcomes of a delivery, the errors of handlers, and the policy that makes one of the other. No I/O."""

from collections.abc import Sequence
from dataclasses import dataclass


class TransientError(Exception):
    """It failed now and may work later: the message is tried again after a delay.

    `retry_after_seconds`: how long the other side asks to be left alone, if it does.
    """

    def __init__(self, message: str = "", *, retry_after_seconds: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class OutcomeUnknown(TransientError):
    """There was no answer: the effect may have happened or not. Not tried again within the same attempt."""


class Unavailable(TransientError):
    """The outside system fails, whatever it is asked. A repetition is safe: a breaker may turn this into `NotReady`."""


class NoAnswer(Unavailable, OutcomeUnknown):
    """The outside system did not answer, and honours idempotency keys: a repetition is safe."""


class PermanentError(Exception):
    """It can never work: the message becomes a dead letter at once. `reason` is one word for its header."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class NotReady(Exception):
    """Something that this service needs is away: the delivery is held until it is back, and spends no attempt."""


class AccessDenied(NotReady):
    """The outside system refuses this service, until a person mends a setting such as a key. The message says how."""


@dataclass(frozen=True, slots=True)
class Ack:
    """The work is done and durable. `duplicate`: an earlier delivery had done it."""

    duplicate: bool = False


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again after `delay_seconds`, through the retry queue of that delay."""

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
    """One more delivery after each delay, so there are at most `len(delays_seconds) + 1`."""

    delays_seconds: Sequence[float]

    def outcome_of(self, error: Exception, number: int) -> Retry | DeadLetter:
        """What becomes of delivery `number` (from 1) of a message. `NotReady` needs a policy with a delay."""
        text = error_text(error)
        if isinstance(error, NotReady):
            return Retry(self.delays_seconds[0], text, spends_attempt=False)
        if isinstance(error, PermanentError):
            return DeadLetter(error.reason, storable(str(error)))
        if number <= len(self.delays_seconds):
            return Retry(self._delay(error, number), text)
        return DeadLetter("attempts-exhausted", text)

    def _delay(self, error: Exception, number: int) -> float:
        """The usual one or, if the other side asks for more, the shortest of the delays that is long enough."""
        usual = self.delays_seconds[number - 1]
        asked = error.retry_after_seconds if isinstance(error, TransientError) else 0.0
        if asked <= usual:
            return usual
        return min((delay for delay in self.delays_seconds if delay >= asked), default=max(self.delays_seconds))


def error_text(error: Exception) -> str:
    """With the error's class, for logs and headers."""
    return storable(f"{type(error).__name__}: {error}")


def storable(text: str) -> str:
    """Without lone surrogates, which UTF-8 can't hold, and without NUL, which PostgreSQL refuses."""
    return text.encode(errors="replace").decode().replace("\0", "?")
