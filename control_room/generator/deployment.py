"""The lines of a service in the files that deploy the system: each comes after the same line of the service before."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from control_room.generator.checkout import Refused


@dataclass(frozen=True)
class Deployed:
    """What a service is called in these files."""

    name: str
    port: int
    queue: str = ""

    def fill(self, text: str) -> str:
        """The text with `<name>`, `<NAME>`, `<dashed>`, `<port>` and `<queue>` filled in."""
        for word, value in (
            ("<name>", self.name), ("<NAME>", self.name.upper()), ("<dashed>", self.name.replace("_", "-")),
            ("<port>", str(self.port)), ("<queue>", self.queue),
        ):  # fmt: skip
            text = text.replace(word, value)
        return text


COMPOSE = "docker-compose.yml"
HAPROXY = "deploy/haproxy/haproxy.cfg"
CLUSTER = "deploy/compose.cluster.yml"
KUBERNETES = "deploy/kubernetes/base"
SCALING = "deploy/kubernetes/overlays/cluster/scaling.yaml"

LINES = {
    "pyproject.toml": ['<name> = "<name>.contract:CONTRACT"'],
    COMPOSE: [
        "- 127.0.0.1:${<NAME>_PORT:-<port>}:<port>",
        "<NAME>_DATABASE_URL: *<dashed>-database",
        "<NAME>_RABBITMQ_PASSWORD: ${<NAME>_RABBITMQ_PASSWORD:-<name>}",
        "<NAME>_URL: http://<name>:<port>",
        "<NAME>_DATABASE_PASSWORD: ${<NAME>_DATABASE_PASSWORD:-<name>}",
    ],
    f"{KUBERNETES}/kustomization.yaml": ["- <dashed>.yaml"],
    f"{KUBERNETES}/control-room.yaml": ['- {name: <NAME>_URL, value: "http://<dashed>:<port>"}'],
    f"{KUBERNETES}/jobs.yaml": [
        "- name: <NAME>_DATABASE_URL\n<indent>  valueFrom: {secretKeyRef: {name: databases, key: <NAME>_DATABASE_URL}}"
    ],
}
"""By file: lines that each service has, once or more often."""

WORDS = {
    "pyproject.toml": [(r'"<name>"(?=, "control_room")', ', "<name>"')],
    COMPOSE: [(r"depends_on: \[.*\b<name>(?=\])", ", <name>"), (r"DATABASES: [\w ]*\b<name>\b", " <name>")],
    HAPROXY: [(r"\{ nbsrv\(<name>\) eq 0 \}", " || { nbsrv(<name>) eq 0 }")],
}
"""By file: where a service stands in a line with the others, and what the next one adds behind it."""

BLOCKS = {
    COMPOSE: {
        "  <name>:": """\
  <name>:
    <<: *service
    command: [python, -m, <name>]
    environment:
      <<: *service-environment
      HTTP_PORT: <port>
      RABBITMQ_URL: amqp://<name>:${<NAME>_RABBITMQ_PASSWORD:-<name>}@rabbitmq:5672/
      DATABASE_URL: &<dashed>-database postgresql://<name>:${<NAME>_DATABASE_PASSWORD:-<name>}@postgres/<name>
"""
    },
    HAPROXY: {
        "frontend <name> from published": """\
frontend <name> from published
    bind :<port>
    maxconn 900
    use_backend <name>_ready if { nbsrv(<name>_ready) gt 0 }
    default_backend <name>
""",
        "backend <name> from common": """\
backend <name>_ready from common
    server-template replica 16 <name>:<port> check

backend <name> from common
    server-template replica 16 <name>:<port>
""",
    },
    CLUSTER: {
        "  <name>:": """\
  <name>:
    environment:
      RABBITMQ_URL: "\\
        amqp://<name>:${<NAME>_RABBITMQ_PASSWORD:-<name>}@rabbitmq:5672/,\\
        amqp://<name>:${<NAME>_RABBITMQ_PASSWORD:-<name>}@rabbitmq_2:5672/,\\
        amqp://<name>:${<NAME>_RABBITMQ_PASSWORD:-<name>}@rabbitmq_3:5672/"
"""
    },
}
"""By file: paragraphs, each under the first line of the paragraph of the service before that it comes behind."""

SCALED = """\
---
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata:
  name: <dashed>
spec:
  scaleTargetRef: {name: <dashed>}
  minReplicaCount: 2
  maxReplicaCount: 8
  cooldownPeriod: 300
  fallback: {failureThreshold: 3, replicas: 2, behavior: currentReplicasIfHigher} # while RabbitMQ can't be asked
  triggers:
    - type: rabbitmq
      metadata: {protocol: amqp, mode: QueueLength, value: "1000", vhostName: /, queueName: <queue>}
      authenticationRef: {name: broker}
"""

POD = """\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: <dashed>
  labels: {app.kubernetes.io/name: <dashed>, order-rail/kind: service}
spec:
  selector:
    matchLabels: {app.kubernetes.io/name: <dashed>}
  template:
    metadata:
      labels: {app.kubernetes.io/name: <dashed>, order-rail/kind: service}
    spec:
      containers:
        - name: main
          command: [python, -m, <name>]
          ports:
            - {name: http, containerPort: <port>}
          env:
            - {name: HTTP_PORT, value: "<port>"}
            - name: <NAME>_RABBITMQ_PASSWORD
              valueFrom: {secretKeyRef: {name: broker-users, key: <NAME>_RABBITMQ_PASSWORD}}
            - {name: RABBITMQ_URL, value: "amqp://<name>:$(<NAME>_RABBITMQ_PASSWORD)@broker:5672/"}
            - name: DATABASE_URL
              valueFrom: {secretKeyRef: {name: databases, key: <NAME>_DATABASE_URL}}
---
apiVersion: v1
kind: Service
metadata:
  name: <dashed>
spec:
  selector: {app.kubernetes.io/name: <dashed>}
  ports:
    - {name: http, port: <port>, targetPort: http}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: <dashed>
spec:
  maxUnavailable: 1
  selector:
    matchLabels: {app.kubernetes.io/name: <dashed>}
"""


def files(root: Path, new: Deployed) -> dict[str, str]:
    """The deployment files that are the service's own."""
    return {new.fill(f"{KUBERNETES}/<dashed>.yaml"): new.fill(POD)} if (root / KUBERNETES).is_dir() else {}


def edited(root: Path, last: Deployed, new: Deployed) -> dict[str, str]:
    """The files that all services share, with `new` behind `last`. Raises `Refused` if `last` is not found in one.

    A file that a project does not have is passed over.
    """

    def exists(file: str) -> bool:
        return (root / file).is_file()

    def read(file: str) -> str:
        return (root / file).read_text(encoding="utf-8")

    texts: dict[str, str] = {}
    for file, pattern, addition in _additions():
        if not exists(file):
            continue
        added = new.fill(addition)
        text, count = re.subn(
            last.fill(pattern),
            lambda found, added=added: found[0] + added.replace("<indent>", found[1] if found.lastindex else ""),  # type: ignore[misc]
            texts.get(file) or read(file),
            flags=re.MULTILINE,
        )
        if not count:
            raise Refused(f"{file} has nothing like {last.fill(pattern)!r}, after which {new.name} could be written")
        texts[file] = text
    return {**texts, SCALING: read(SCALING) + new.fill(SCALED)} if exists(SCALING) else texts


def _additions() -> Iterator[tuple[str, str, str]]:
    """The file, what is found there of the service before, and what the next one adds behind it."""
    for file, lines in LINES.items():
        yield from ((file, rf"^( *){_escaped(line)}$", f"\n<indent>{line}") for line in lines)
    for file, words in WORDS.items():
        yield from ((file, pattern, addition) for pattern, addition in words)
    for file, blocks in BLOCKS.items():
        yield from ((file, rf"^{_escaped(first)}\n(?:.+\n)+", f"\n{block}") for first, block in blocks.items())


def _escaped(text: str) -> str:
    """As a pattern, in which the words in `<>` are still to be filled in."""
    return re.escape(text).replace("<indent>", r"\1")
