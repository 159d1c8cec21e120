"""The manifests: valid by Kubernetes' own schemas, every reference resolves, nobody is root."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from geodes_tasks.model.states import Reason, State
from geodes_tasks.settings.config import Settings, environment_name
from tests.tools import optional

FOLDER = Path(__file__).parents[2] / "deploy" / "kubernetes"
OVERLAYS = sorted(path.parent.name for path in FOLDER.glob("overlays/*/kustomization.yaml"))
OPERATORS = sorted((FOLDER.parent / "README.md").read_text().split())
"""The words of what operators read: a secret that is to be made is named there."""
Document = dict[str, Any]


def raw_documents() -> list[Document]:
    """Give every object as it stands in the files; patches and kustomizations left out."""
    files = [p for p in FOLDER.rglob("*.yaml") if p.name != "kustomization.yaml"]
    patched = {FOLDER / "overlays" / "external-redis" / f"{n}.yaml" for n in WORKLOADS}
    return [
        document
        for file in sorted(set(files) - patched)
        for document in yaml.safe_load_all(file.read_text())
    ]


WORKLOADS = ("worker", "flower", "metrics")


@cache
def built(overlay: str) -> list[Document]:
    """Give the objects of an overlay, as they would be applied."""
    command = optional(["kubectl", "kustomize"], ["kustomize", "build"], proof="--help")
    done = subprocess.run(
        [*command, str(FOLDER / "overlays" / overlay)], capture_output=True, text=True, check=True
    )
    return list(yaml.safe_load_all(done.stdout))


def of_kind(documents: list[Document], *kinds: str) -> list[Document]:
    """Give the objects of some kinds."""
    return [one for one in documents if one["kind"] in kinds]


def named(documents: list[Document], kind: str, name: str) -> Document:
    """Give one object."""
    (found,) = (one for one in of_kind(documents, kind) if one["metadata"]["name"] == name)
    return found


def pods(documents: list[Document]) -> Iterator[tuple[str, Document]]:
    """Give the name and pod template of every workload."""
    for one in of_kind(documents, "Deployment", "StatefulSet"):
        yield one["metadata"]["name"], one["spec"]["template"]


def validate(document: Document) -> None:
    """Hold an object against its schema, unknown fields included; KEDA's is not among them."""
    if document["apiVersion"] != "keda.sh/v1alpha1":
        kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)


def test_every_object_is_valid_by_its_schema() -> None:
    """Each object in the files passes Kubernetes' own schema, with no field that it has not."""
    documents = raw_documents()

    assert len(documents) > 15
    for document in documents:
        validate(document)


def test_a_wrong_field_would_be_noticed() -> None:
    """The schemas are strict: a misspelt field is an error."""
    (worker,) = (
        d for d in of_kind(raw_documents(), "Deployment") if d["metadata"]["name"] == "worker"
    )
    worker["spec"]["template"]["spec"]["terminationGracePeriodSecond"] = 60

    with pytest.raises(kubernetes_validate.ValidationError, match="terminationGracePeriodSecond"):
        validate(worker)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_overlay_is_valid(overlay: str) -> None:
    """What kustomize makes of each overlay passes the schemas too, all in one namespace."""
    documents = built(overlay)

    for document in documents:
        validate(document)
    spaces = {d["metadata"].get("namespace") for d in documents if d["kind"] != "Namespace"}
    assert spaces == {"geodes-tasks"}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_reference_resolves(overlay: str) -> None:
    """Volumes, claims, settings, ports, selectors and secrets are all there."""
    documents = built(overlay)
    labels = {name: template["metadata"]["labels"] for name, template in pods(documents)}
    ports: dict[str, set[str]] = {}
    for name, template in pods(documents):
        spec = template["spec"]
        claims = {v["metadata"]["name"] for v in claims_of(documents, name)}
        volumes = {volume["name"] for volume in spec["volumes"]} | claims
        ports[name] = {p["name"] for c in spec["containers"] for p in c.get("ports", ())}
        for container in spec["containers"]:
            assert {m["name"] for m in container["volumeMounts"]} <= volumes, name
            for source in container.get("envFrom", ()):
                assert source["configMapRef"]["name"] in names(documents, "ConfigMap")
            for mount in mounts_of_files(container):
                assert any(mount.startswith(m["mountPath"]) for m in container["volumeMounts"])
        for volume in spec["volumes"]:
            if "persistentVolumeClaim" in volume:
                claim = volume["persistentVolumeClaim"]["claimName"]
                assert claim in names(documents, "PersistentVolumeClaim")
            if "secret" in volume:
                assert f"`{volume['secret']['secretName']}`" in OPERATORS, volume
    for service in of_kind(documents, "Service"):
        (target,) = [
            n for n, found in labels.items() if matches(service["spec"]["selector"], found)
        ]
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports[target]
    for budget in of_kind(documents, "PodDisruptionBudget"):
        selector = budget["spec"]["selector"]["matchLabels"]
        assert [n for n, found in labels.items() if matches(selector, found)] == ["worker"]
    for ingress in of_kind(documents, "Ingress"):
        for rule in ingress["spec"]["rules"]:
            for path in rule["http"]["paths"]:
                assert path["backend"]["service"]["name"] in names(documents, "Service")
        assert {r["host"] for r in ingress["spec"]["rules"]} == set(
            ingress["spec"]["tls"][0]["hosts"]
        )


def names(documents: list[Document], kind: str) -> set[str]:
    """Name the objects of a kind."""
    return {one["metadata"]["name"] for one in of_kind(documents, kind)}


def claims_of(documents: list[Document], name: str) -> list[Document]:
    """Give the claims that a stateful set makes for itself."""
    sets = [one for one in of_kind(documents, "StatefulSet") if one["metadata"]["name"] == name]
    return [claim for one in sets for claim in one["spec"].get("volumeClaimTemplates", ())]


def mounts_of_files(container: Document) -> list[str]:
    """Name the files that a container's settings mention."""
    values = [variable["value"] for variable in container.get("env", ())]
    found = [re.search(r"(?:^|=)(/secrets/.*)", value) for value in values]
    return [match[1] for match in found if match]


def matches(selector: dict[str, str], labels: dict[str, str]) -> bool:
    """Tell whether labels are selected."""
    return selector.items() <= labels.items()


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_network_policies_mean_somebody(overlay: str) -> None:
    """Each pod that is named in a policy exists, beside clients that somebody starts by hand."""
    documents = built(overlay)
    known = {
        template["metadata"]["labels"]["app.kubernetes.io/name"] for _, template in pods(documents)
    }
    text = yaml.safe_dump(of_kind(documents, "NetworkPolicy"))
    meant = set(re.findall(r"app\.kubernetes\.io/name: (\S+)", text))
    meant |= set(re.findall(r"^ +- (worker|flower|metrics|client|redis)$", text, re.MULTILINE))

    assert meant - known <= {"client"}
    assert {"worker", "flower", "metrics"} <= meant


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_everybody_is_restricted(overlay: str) -> None:
    """By the rules of the restricted pod security standard, and with a read-only root."""
    for name, template in pods(built(overlay)):
        spec = template["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["runAsUser"] > 0, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert spec["automountServiceAccountToken"] is False, name
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, name
            assert "limits" in container["resources"], name


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_settings_exist_and_the_stop_is_long_enough(overlay: str) -> None:
    """Every variable is one of ours, and a worker is not killed while it gives work back."""
    known = {environment_name(field) for field in Settings.model_fields}
    known |= {"AWS_SHARED_CREDENTIALS_FILE", "FLOWER_BASIC_AUTH_FILE"}
    documents = built(overlay)
    (settings,) = [one["data"] for one in of_kind(documents, "ConfigMap")]

    assert set(settings) <= known
    for name, template in pods(documents):
        for container in template["spec"]["containers"]:
            assert {variable["name"] for variable in container.get("env", ())} <= known, name
        if name == "worker":
            grace = float(settings["GEODES_TASKS_GRACE_SECONDS"])
            assert template["spec"]["terminationGracePeriodSeconds"] > grace + 15


def test_scaling_follows_queued_and_leased_work() -> None:
    """KEDA asks for metrics and values that exist, of the workers, and never goes down to none."""
    documents = built("keda")
    (scaled,) = of_kind(documents, "ScaledObject")
    spec = scaled["spec"]
    (trigger,) = spec["triggers"]
    query = trigger["metadata"]["query"]

    assert spec["scaleTargetRef"]["name"] in names(documents, "Deployment")
    assert spec["minReplicaCount"] >= 1
    assert all(isinstance(value, str) for value in trigger["metadata"].values())
    assert set(re.findall(r"geodes_tasks_\w+", query)) == {
        "geodes_tasks_files",
        "geodes_tasks_waiting",
    }
    (states,), (reasons,) = (
        re.findall(r'state=~"([^"]*)"', query),
        re.findall(r'reason=~"([^"]*)"', query),
    )
    assert set(states.split("|")) <= set(State)
    assert {State.PENDING, State.STARTED} <= set(states.split("|"))
    assert set(reasons.split("|")) <= set(Reason)
    assert "replicas" not in named(documents, "Deployment", "worker")["spec"]


def test_redis_is_full_before_it_is_killed() -> None:
    """Its own limit leaves room to rewrite its file below the limit of the pod."""
    (redis,) = of_kind(raw_documents(), "StatefulSet")
    (container,) = redis["spec"]["template"]["spec"]["containers"]
    own = container["args"][container["args"].index("--maxmemory") + 1]
    limit = container["resources"]["limits"]["memory"]

    assert (own[-2:], limit[-2:]) == ("mb", "Gi")
    assert 0.5 < float(own[:-2]) / (1024 * float(limit[:-2])) < 0.65


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_what_a_worker_remembers_outlives_its_pod(overlay: str) -> None:
    """The id of the ledger that it used last is on the claim of the downloads."""
    worker = named(built(overlay), "Deployment", "worker")
    (container,) = worker["spec"]["template"]["spec"]["containers"]
    (state,) = [v["value"] for v in container["env"] if v["name"] == "GEODES_TASKS_STATE_DIR"]

    assert state.startswith("/data/")


def test_an_external_redis_is_reached_by_tls() -> None:
    """Nobody speaks plain Redis over a network that is not the cluster's, and none is started."""
    documents = built("external-redis")

    assert "redis" not in {name for name, _ in pods(documents)}
    for _, template in pods(documents):
        (container,) = template["spec"]["containers"]
        (url,) = [v["value"] for v in container["env"] if v["name"] == "GEODES_TASKS_REDIS_URL"]
        assert url.startswith("rediss://")
