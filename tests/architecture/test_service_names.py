"""A service is one unit: to rename one, open its package, its registry line and its compose block."""

import re
import subprocess
from pathlib import Path

import pytest

from shared.contract import services

ROOT = Path(__file__).parents[2]
NAMES = [service.name for service in services()]

FREE = re.compile(r"(tests|docs)/|[^/]*\.md$|docker-compose\.yml$|\.env\.example$")
"""Tests, documentation, compose blocks and what is generated from them may name every service."""

EXCEPTIONS = {
    "pyproject.toml": "the registry; and import-linter takes no pattern for the packages that it looks at",
    "control_room/operations/roles.py": "which service plays which part in what the control room tells and compares",
    "control_room/generator/manifest.py": "what a new project leaves out, and the lines of it in files that it takes",
    "deploy/haproxy/haproxy.cfg": "a published port and replicas for each service: HAProxy has no loops",
    "deploy/small.yml": "what the small system leaves out of the compose file",
    "benchmarks": "measures these services beside the same shop on other libraries",
    "deploy/compose.cluster.yml": "each service has a user of its own, in the URL of each node",
    "deploy/kubernetes": "a Deployment for each service, and its queues for KEDA: Kubernetes has no loops",
    "deploy/stripe.yml": "the compose overlay that gives the service that pays a gateway and its key",
}


def files_that_name(name: str) -> list[str]:
    found = subprocess.run(
        ["git", "grep", "--name-only", "--ignore-case", name], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return found.stdout.split()


def is_free(file: str, name: str) -> bool:
    return file.startswith(f"{name}/") or FREE.match(file) is not None


@pytest.mark.parametrize("name", NAMES)
def test_a_service_is_named_only_by_itself_and_where_a_reason_stands(name: str) -> None:
    named = [file for file in files_that_name(name) if not is_free(file, name)]
    assert not [file for file in named if not any(f"{file}/".startswith(f"{each}/") for each in EXCEPTIONS)]


def test_the_exceptions_are_few_and_needed() -> None:
    assert len(EXCEPTIONS) <= 12
    named = {file for name in NAMES for file in files_that_name(name) if not is_free(file, name)}
    assert not [each for each in EXCEPTIONS if not any(f"{file}/".startswith(f"{each}/") for file in named)]
