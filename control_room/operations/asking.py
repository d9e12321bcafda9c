"""Asks the services over HTTP, and says in a sentence which of them did not answer, and why."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

import httpx

from control_room.operations.addresses import SystemAddresses
from shared.urls import without_credentials


class Unanswered(Exception):
    """Something can't be known. `part`: a service, the broker or a journal."""

    def __init__(self, part: str, why: str) -> None:
        super().__init__(f"{part}: {why}")


@contextmanager
def explained(service: str, url: str, http: httpx.AsyncClient, answer: str) -> Iterator[None]:
    """Raises Unanswered, with a sentence for why a service's `answer` could not be read."""
    try:
        yield
    except httpx.ConnectError as error:
        raise Unanswered(service, f"it does not answer at {without_credentials(url)}") from error
    except httpx.TimeoutException as error:
        raise Unanswered(service, f"it was silent for {http.timeout.read or 0:g} s") from error
    except httpx.HTTPError as error:
        why = str(error) or type(error).__name__
        raise Unanswered(service, f"it went away while it was read ({why}); run it again") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Unanswered(service, f"{answer} can't be read: {error!r}") from error


async def check(service: str, answer: httpx.Response) -> None:
    """Raises Unanswered unless the answer of a service is a success."""
    if answer.is_success:
        return
    await answer.aread()
    if answer.status_code == httpx.codes.UNAUTHORIZED:
        raise Unanswered(service, "it refused the operator's token; is OPERATOR_TOKEN the one that it runs with?")
    asked = f"{answer.request.method} {answer.request.url.path}"
    raise Unanswered(service, f"{asked} was answered {answer.status_code}: {_why(answer)[:300]}")


def _why(answer: httpx.Response) -> str:
    """The detail of a problem document; else the body as it is."""
    try:
        problem = answer.json()
        return str(problem.get("detail") or problem["title"])
    except (ValueError, KeyError, AttributeError):
        return answer.text


async def read_milestones(system: SystemAddresses, http: httpx.AsyncClient, service: str) -> dict[str, datetime]:
    """A service's milestones by name; none of a version that knows none. Raises Unanswered."""
    url = system.services[service]
    with explained(service, url, http, "its milestones"):
        answer = await http.get(f"{url}/milestones", headers=system.operator_headers)
        if answer.status_code == httpx.codes.NOT_FOUND:
            return {}
        await check(service, answer)
        return {name: datetime.fromisoformat(at) for name, at in answer.json().items()}
