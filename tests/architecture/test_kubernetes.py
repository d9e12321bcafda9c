"""The Kubernetes manifests: they build, Kubernetes would take them, and they say what the contracts say.

They are built by `kustomize`, or by a `kubectl` that has it; where there is neither, these tests are skipped, and on CI
they fail. The schemas of RabbitMQ's and KEDA's resources are no part of this repository; `CRDS_FOLDER` names a folder.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml

from control_room.operations.databases import database_variables
from shared.contract import ServiceContract, services

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy/kubernetes"
OVERLAYS = sorted(path.name for path in (FOLDER / "overlays").iterdir())
CRDS = Path(os.environ.get("CRDS_FOLDER", ROOT.parent / "shared/crds"))
CUSTOM = {"RabbitmqCluster", "ScaledObject", "TriggerAuthentication"}
STOP_SECONDS = 10.0
"""A service's own limit, from the end of its drain to its end."""

Object = dict[str, Any]


@cache
def built(overlay: str) -> tuple[Object, ...]:
    """Every object of an overlay."""
    if shutil.which("kustomize"):
        command = ["kustomize", "build"]
    elif shutil.which("kubectl"):
        command = ["kubectl", "kustomize"]
    elif os.environ.get("CI"):
        pytest.fail("neither kustomize nor kubectl is installed")
    else:
        pytest.skip("neither kustomize nor kubectl is installed")
    text = subprocess.run([*command, FOLDER / "overlays" / overlay], capture_output=True, text=True, check=False)
    assert text.returncode == 0, text.stderr
    return tuple(yaml.safe_load_all(text.stdout))


def of_kind(kind: str, overlay: str = "cluster") -> Mapping[str, Object]:
    return {each["metadata"]["name"]: each for each in built(overlay) if each["kind"] == kind}


def pods() -> Iterator[tuple[str, Object]]:
    """The pod of each workload, with its name."""
    for kind in ("Deployment", "Job"):
        for name, workload in of_kind(kind).items():
            yield name, workload["spec"]["template"]["spec"]


def container(pod: Object) -> Object:
    (only,) = pod["containers"]
    return dict(only)


def variables(pod: Object) -> dict[str, Object]:
    """Of the pod's container, by name: the entries of its `env`, and the settings that all have."""
    entries = {entry["name"]: entry for entry in container(pod).get("env", [])}
    (settings,) = [each["data"] for name, each in of_kind("ConfigMap").items() if name.startswith("settings-")]
    maps = [each for each in container(pod).get("envFrom", []) if "configMapRef" in each]
    return entries | ({name: {"value": value} for name, value in settings.items()} if maps else {})


def secret(variable: Object) -> tuple[str, str]:
    reference = variable["valueFrom"]["secretKeyRef"]
    return reference["name"], reference["key"]


def kubernetes_name(service: ServiceContract) -> str:
    return service.name.replace("_", "-")


@cache
def strict_schema(kind: str) -> Object:
    """Of a resource that is not Kubernetes' own: a field that it does not know is an error."""
    if not CRDS.is_dir():
        pytest.skip(f"no schemas of custom resources in {CRDS} (CRDS_FOLDER)")
    for file in CRDS.glob("*.yaml"):
        definition = yaml.load(file.read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        if definition["spec"]["names"]["kind"] == kind:
            (version,) = [each for each in definition["spec"]["versions"] if each["storage"]]
            return dict(_strict(version["schema"]["openAPIV3Schema"]))
    raise LookupError(kind)


def _strict(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    stricter = {key: _strict(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and not schema.get("x-kubernetes-preserve-unknown-fields"):
        stricter.setdefault("additionalProperties", False)
    return stricter


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_kubernetes_takes_what_is_built(overlay: str) -> None:
    own = [each for each in built(overlay) if each["kind"] not in CUSTOM]
    assert {each["kind"] for each in own} > {"Deployment", "Job", "NetworkPolicy", "PodDisruptionBudget", "Ingress"}
    for each in own:
        kubernetes_validate.validate(each, kubernetes_validate.latest_version(), strict=True)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_operators_take_what_is_built_for_them(overlay: str) -> None:
    custom = [each for each in built(overlay) if each["kind"] in CUSTOM]
    assert custom
    for each in custom:
        jsonschema.validate(each, strict_schema(each["kind"]))


def test_a_misspelled_field_of_a_custom_resource_is_an_error() -> None:
    broker = of_kind("RabbitmqCluster")["broker"]
    misspelled = {**broker, "spec": {**broker["spec"], "replica": 3}}
    with pytest.raises(jsonschema.ValidationError, match="'replica' was unexpected"):
        jsonschema.validate(misspelled, strict_schema("RabbitmqCluster"))


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_no_secret_is_written_down(overlay: str) -> None:
    assert "Secret" not in {each["kind"] for each in built(overlay)}
    for _, pod in pods():
        written = {name: str(entry["value"]) for name, entry in variables(pod).items() if "value" in entry}
        assert not [name for name in written if re.search("PASSWORD|TOKEN|SECRET|DATABASE_URL", name)]
        assert not [url for url in written.values() if re.search(r"://[^/@]*:(?!\$\()[^/@]+@", url)]


@pytest.mark.parametrize("service", services(), ids=lambda service: service.name)
def test_every_registered_service_runs_as_its_contract_says(service: ServiceContract) -> None:
    name, password = kubernetes_name(service), service.variable("RABBITMQ_PASSWORD")
    pod = dict(pods())[name]
    given = variables(pod)

    assert container(pod)["command"] == ["python", "-m", service.name]
    assert container(pod)["ports"] == [{"name": "http", "containerPort": service.port}]
    assert given["HTTP_PORT"]["value"] == str(service.port)
    assert of_kind("Service")[name]["spec"]["ports"][0]["port"] == service.port
    assert given["RABBITMQ_URL"]["value"] == f"amqp://{service.name}:$({password})@broker:5672/"
    assert secret(given[password]) == ("broker-users", password)
    migrations = variables(dict(pods())["migrations"])
    for variable, database in database_variables(service).items():
        assert secret(given[database.variable]) == secret(migrations[variable]) == ("databases", variable)
    known = {field.upper() for field in import_module(f"{service.name}.app").Settings.model_fields}
    assert set(given) - known == {password}
    assert variables(dict(pods())["control-room"])[service.variable("URL")]["value"] == f"http://{name}:{service.port}"


@pytest.mark.parametrize("service", services(), ids=lambda service: service.name)
def test_every_service_has_probes_a_budget_and_time_to_end_and_is_scaled_by_its_queues(
    service: ServiceContract,
) -> None:
    name = kubernetes_name(service)
    pod = dict(pods())[name]

    assert container(pod)["livenessProbe"]["httpGet"] == {"path": "/livez", "port": "http"}
    assert container(pod)["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "http"}
    drain_seconds = float(variables(pod)["DRAIN_SECONDS"]["value"])
    assert pod["terminationGracePeriodSeconds"] >= drain_seconds + STOP_SECONDS + 5
    assert of_kind("PodDisruptionBudget")[name]["spec"]["selector"]["matchLabels"] == {"app.kubernetes.io/name": name}
    scaled = of_kind("ScaledObject")[name]["spec"]
    queues = [each["metadata"]["queueName"] for each in scaled["triggers"] if each["type"] == "rabbitmq"]
    assert scaled["scaleTargetRef"] == {"name": name}
    assert sorted(queues) == sorted(service.queue_names)


def test_every_pod_is_confined_and_gets_no_variables_of_kubernetes() -> None:
    for name, pod in pods():
        assert pod["enableServiceLinks"] is False, name  # ORDER_SERVICE_PORT would be `tcp://10.0.0.1:8000`
        assert pod["securityContext"]["runAsNonRoot"], name
        assert container(pod)["securityContext"]["readOnlyRootFilesystem"], name
        assert {"cpu", "memory"} <= set(container(pod)["resources"]["requests"]), name


def test_every_variable_of_a_pod_is_one_that_is_documented() -> None:
    documented = {*re.findall(r"[A-Z][A-Z_]+", (ROOT / "docs/settings.md").read_text()), "TMPDIR"}
    for service in services():
        documented |= {service.variable(end) for end in ("URL", "DATABASE_URL", "RABBITMQ_PASSWORD")}
    for name, pod in pods():
        given = variables(pod)
        values = " ".join(str(entry.get("value", "")) for entry in given.values())
        assert set(given) - documented - set(re.findall(r"\$\((\w+)\)", values)) == set(), name


def test_the_network_lets_through_what_is_needed_and_closes_the_rest() -> None:
    policies = of_kind("NetworkPolicy")

    assert policies["nobody-else"]["spec"] == {"podSelector": {}, "policyTypes": ["Ingress"]}
    to_broker = policies["to-broker"]["spec"]
    labels = [
        of_kind("Deployment")[kubernetes_name(each)]["spec"]["template"]["metadata"]["labels"] for each in services()
    ]
    allowed = [peer["podSelector"]["matchLabels"] for peer in to_broker["ingress"][0]["from"] if "podSelector" in peer]
    assert all(any(peer.items() <= each.items() for peer in allowed) for each in labels)


def test_events_are_kept_as_long_as_in_containers_by_the_services_and_by_what_makes_the_stream() -> None:
    (kept,) = set(re.findall(r"EVENTS_KEPT_HOURS:-(\d+)", (ROOT / "docker-compose.yml").read_text()))
    given = {name: variables(pod).get("EVENTS_KEPT_HOURS", {}).get("value") for name, pod in pods()}
    assert given == {name: None if name == "migrations" else kept for name in given}


def test_what_makes_the_stream_knows_every_node_of_the_cluster() -> None:
    urls = variables(dict(pods())["topology"])["RABBITMQ_MANAGEMENT_URL"]["value"]
    replicas = of_kind("RabbitmqCluster")["broker"]["spec"]["replicas"]
    assert [url.rpartition("@")[2] for url in str(urls).split(",")] == [
        f"broker-server-{number}.broker-nodes:15672" for number in range(replicas)
    ]


def test_the_small_overlay_needs_no_keda() -> None:
    assert not of_kind("ScaledObject", "small")
    assert of_kind("RabbitmqCluster", "small")["broker"]["spec"]["replicas"] == 1
    assert of_kind("RabbitmqCluster", "cluster")["broker"]["spec"]["replicas"] == 3
