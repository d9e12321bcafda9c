"""Calls for operators alone: they need the bearer token."""

import hmac
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from shared.http.problems import Problem

_bearer = HTTPBearer(auto_error=False, description="The value of OPERATOR_TOKEN")


async def operator(request: Request, given: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> None:
    """Dependency: lets the call through only with `Authorization: Bearer $OPERATOR_TOKEN`; raises 401 else."""
    token: str = request.app.state.operator_token
    if not token:
        raise _denied("OPERATOR_TOKEN is not set for this service, so operators' calls are off")
    if given is None or not hmac.compare_digest(given.credentials.encode(), token.encode()):
        raise _denied("an operator's call needs the header Authorization: Bearer <OPERATOR_TOKEN>")


def _denied(detail: str) -> Problem:
    return Problem(401, detail, headers={"WWW-Authenticate": "Bearer"})
