"""The Helm chart: valid by Kubernetes' schemas, every reference resolves, no pod is root."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from typing import Any

import helm_python
import jsonschema
import kubernetes_validate
import pytest
import yaml

from geodes_tasks.model.states import Reason, State
from geodes_tasks.model.version import __version__
from geodes_tasks.settings.config import Config, environment_name
from tests.deploy.chart import CHART, EXAMPLE, Document, documents, rendered
from tests.deploy.custom_resources import check
from tests.tools import optional

VERSIONS = ("1.31", "1.34", "1.37")
"""Versions of Kubernetes whose schemas the manifests are checked against."""
OPERATORS = (CHART.parents[1] / "README.md").read_text()
INGRESS = {"flower": {"ingress": {"enabled": True}}}
RELEASES: dict[str, dict[str, Any]] = {
    "default": {},
    "external": {"redis": {"mode": "external"}, "secrets": {"redisCa": "redis-ca"}},
    "sentinel": {"redis": {"mode": "sentinel", "sentinel": {"tls": True}}},
    "keda": {"keda": {"enabled": True}, "metrics": {"serviceMonitor": {"enabled": True}}},
    "claim": {"storage": {"existingClaim": "products", "path": "/products"}, **INGRESS},
    "small": {
        "flower": {"enabled": False},
        "metrics": {"enabled": False},
        "client": {"enabled": False},
        "networkPolicy": {"enabled": False},
    },
}
"""Values of the releases that are rendered, by a name for each."""
EXISTING = {"products"}
"""Claims that a release expects in the cluster."""
releases = pytest.mark.parametrize("release", RELEASES)


def of_kind(found: list[Document], *kinds: str) -> list[Document]:
    """Return the objects of some kinds."""
    return [one for one in found if one["kind"] in kinds]


def names(found: list[Document], kind: str) -> set[str]:
    """Return the names of the objects of a kind."""
    return {one["metadata"]["name"] for one in of_kind(found, kind)}


def component(labels: dict[str, str]) -> str:
    """Return which part of the release a pod is."""
    return labels["app.kubernetes.io/component"]


def pods(found: list[Document]) -> Iterator[tuple[str, Document]]:
    """Yield the component and the pod template of each workload."""
    for one in of_kind(found, "Deployment", "StatefulSet"):
        yield component(one["metadata"]["labels"]), one["spec"]["template"]


@pytest.mark.parametrize("version", VERSIONS)
@releases
def test_every_object_is_valid_by_its_schema(release: str, version: str) -> None:
    """Each object passes the schema of that Kubernetes, in the namespace of the release."""
    found = documents(RELEASES[release])

    assert len(found) > 5
    for document in found:
        check(document, version)
    assert {d["metadata"]["namespace"] for d in found} == {"geodes-tasks"}


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        ("Deployment", ["template", "spec"]),
        ("ScaledObject", []),
        ("ScaledObject", ["triggers", 0]),
        ("ScaledObject", ["triggers", 0, "metadata"]),
        ("ScaledObject", ["advanced", "horizontalPodAutoscalerConfig", "behavior", "scaleDown"]),
        ("ServiceMonitor", ["endpoints", 0]),
    ],
)
def test_a_wrong_field_would_be_noticed(kind: str, path: list[Any]) -> None:
    """The schemas are strict: a misspelt field is an error, in custom resources too."""
    document = of_kind(documents(RELEASES["keda"]), kind)[0]
    place = document["spec"]
    for step in path:
        place = place[step]
    place["misspelt"] = "60"

    wrong = (kubernetes_validate.ValidationError, jsonschema.ValidationError)
    with pytest.raises(wrong, match="misspelt"):
        check(document, VERSIONS[-1])


@pytest.mark.parametrize(
    ("name", "namespace"),
    [("geodes", "123"), ("geodes", "true"), ("a" * 50, "on"), ("a.b-" * 13 + "c", "1e3")],
)
def test_odd_names_are_names(name: str, namespace: str) -> None:
    """A namespace of digits stays text; a long release leaves room for what Kubernetes appends."""
    found = documents({"flower": {"ingress": {"enabled": True}}}, name=name, namespace=namespace)

    for document in found:
        check(document, VERSIONS[-1])
    assert {document["metadata"]["namespace"] for document in found} == {namespace}
    labels = [template["metadata"]["labels"] for _, template in pods(found)]
    assert {one["app.kubernetes.io/instance"] for one in labels} == {name}
    # A label of 63 characters has the name of a StatefulSet, a dash and a hash of up to 10.
    (redis,) = names(found, "StatefulSet")
    assert len(redis) <= 63 - 11
    for service in names(found, "Service"):
        assert re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", service)
    assert f"redis://worker@{redis}:6379/0" in yaml.safe_dump(found)


def test_a_release_that_no_service_can_be_named_for_is_refused() -> None:
    """The name of a Service begins with a letter."""
    with pytest.raises(helm_python.HelmError, match="begin it with a letter"):
        rendered(name="1e3")


def test_two_renderings_are_the_same() -> None:
    """Nothing is drawn by chance: GitOps tools see no change where there is none."""
    assert rendered(RELEASES["keda"]) == rendered(RELEASES["keda"])


def test_values_that_look_like_numbers_are_kept() -> None:
    """User ids as OpenShift has them, and names of digits, come out as they went in."""
    values = {
        "user": {"uid": 1000660000, "gid": 1000660000},
        "secrets": {"geodesKey": "123", "redisAcl": "0x1"},
        "storage": {"existingClaim": "42", "path": "/42"},
    }
    found = documents(values)
    worker = dict(pods(found))["worker"]["spec"]

    for document in found:
        check(document, VERSIONS[-1])
    assert worker["securityContext"]["runAsUser"] == 1000660000
    assert {v["secret"]["secretName"] for v in worker["volumes"] if "secret" in v} >= {"123"}


def test_an_image_can_be_pinned_by_its_digest() -> None:
    """The digest follows the tag, in each pod of ours."""
    digest = "sha256:" + "0" * 64
    found = documents({"image": {"repository": "r.example.org/geodes", "digest": digest}})

    images = {name: one["spec"]["containers"][0]["image"] for name, one in pods(found)}
    assert images.pop("redis").startswith("redis:")
    assert set(images.values()) == {f"r.example.org/geodes:{__version__}@{digest}"}


@pytest.mark.parametrize(
    ("path", "prefix"), [("/", ""), ("/monitor", "/monitor"), ("/a/b/", "/a/b")]
)
def test_flower_is_below_the_path_of_its_ingress(path: str, prefix: str) -> None:
    """Flower has the prefix itself, so that no proxy rewrites; the probes know it."""
    found = documents({"flower": {"ingress": {"enabled": True, "path": path, "className": ""}}})
    (container,) = dict(pods(found))["flower"]["spec"]["containers"]
    (ingress,) = of_kind(found, "Ingress")

    options = [word for word in container["args"] if word.startswith("--url_prefix")]
    assert options == ([f"--url_prefix={prefix[1:]}"] if prefix else [])
    for probe in ("readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["path"] == f"{prefix}/healthcheck"
    assert ingress["spec"]["rules"][0]["http"]["paths"][0]["path"] == path
    assert "ingressClassName" not in ingress["spec"]


def test_helm_finds_nothing_wrong() -> None:
    """`helm lint` reports no warning and no error."""
    found = helm_python.lint(str(CHART))

    assert found["errors"] == []
    assert {message["error"] for message in found["messages"]} <= {"icon is recommended"}


@pytest.mark.parametrize(
    "values",
    [
        {"wroker": {}},
        {"worker": {"replica": 2}},
        {"redis": {"mode": "cluster"}},
        {"redis": {"sentinel": {"hosts": ["sentinel-0"]}}},
        {"settings": {"QUOTA": "50/hour"}},
        {"user": {"uid": 0}},
        {"flower": {"enable": False}},
        {"networkPolicy": {"extraEgres": []}},
        {"secrets": {"geodesKey": ""}},
        {"image": {"digest": "latest"}},
        {"settings": {"GEODES_TASKS_REDIS_URL": "redis://:secret@redis:6379/0"}},
        {"settings": {"GEODES_TASKS_DOWNLOAD_DIR": "/elsewhere"}},
        {"keda": {"enabled": True}, "metrics": {"enabled": False}},
    ],
)
def test_wrong_values_are_refused(values: dict[str, Any]) -> None:
    """A misspelt value, a mode that does not exist and the user root are refused at once."""
    with pytest.raises(helm_python.HelmError, match="schema"):
        rendered(values)


def test_the_example_is_what_the_chart_renders() -> None:
    """The plain manifests are those of the chart's default values."""
    assert EXAMPLE.read_text() == rendered(), "make chart"


def test_kubectl_reads_the_example() -> None:
    """The client of Kubernetes takes the file as it is."""
    command = optional(["kubectl", "kustomize"], proof="--help")
    folder = CHART.parent
    done = subprocess.run(
        [command[0], "label", "--local", "-f", str(folder / "example.yaml"), "a=b", "-o", "name"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "deployment.apps/geodes-worker" in done.stdout


@releases
def test_every_reference_resolves(release: str) -> None:
    """Volumes, claims, settings, ports and selectors exist; the README names each secret."""
    found = documents(RELEASES[release])
    labels = {name: template["metadata"]["labels"] for name, template in pods(found)}
    ports: dict[str, set[str]] = {}
    for name, template in pods(found):
        spec = template["spec"]
        volumes = {volume["name"] for volume in spec["volumes"]} | claims_of(found, name)
        ports[name] = {p["name"] for c in spec["containers"] for p in c.get("ports", ())}
        for container in spec["containers"]:
            assert {m["name"] for m in container["volumeMounts"]} <= volumes, name
            for source in container.get("envFrom", ()):
                assert source["configMapRef"]["name"] in names(found, "ConfigMap")
            for file in files_in_settings(container):
                assert any(file.startswith(m["mountPath"]) for m in container["volumeMounts"])
        for volume in spec["volumes"]:
            if "persistentVolumeClaim" in volume:
                claim = volume["persistentVolumeClaim"]["claimName"]
                assert claim in names(found, "PersistentVolumeClaim") | EXISTING
            if "secret" in volume:
                assert f"`{volume['secret']['secretName']}`" in OPERATORS, volume
    for service in of_kind(found, "Service"):
        (target,) = [n for n, have in labels.items() if selects(service["spec"]["selector"], have)]
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports[target]
    for budget in of_kind(found, "PodDisruptionBudget"):
        selector = budget["spec"]["selector"]["matchLabels"]
        assert [n for n, have in labels.items() if selects(selector, have)] == ["worker"]
    for ingress in of_kind(found, "Ingress"):
        (rule,) = ingress["spec"]["rules"]
        (path,) = rule["http"]["paths"]
        assert path["backend"]["service"]["name"] in names(found, "Service")
        assert [rule["host"]] == ingress["spec"]["tls"][0]["hosts"]


def claims_of(found: list[Document], name: str) -> set[str]:
    """Return the names of the volumes that a stateful set claims for itself."""
    sets = [
        one for one in of_kind(found, "StatefulSet") if component(one["metadata"]["labels"]) == name
    ]
    claims = [claim for one in sets for claim in one["spec"].get("volumeClaimTemplates", ())]
    return {claim["metadata"]["name"] for claim in claims}


def files_in_settings(container: Document) -> list[str]:
    """Return the files that a container's environment names."""
    values = [variable["value"] for variable in container.get("env", ())]
    found = [re.search(r"(?:^|=)(/secrets/.*)", value) for value in values]
    return [match[1] for match in found if match]


def selects(selector: dict[str, str], labels: dict[str, str]) -> bool:
    """Return whether a selector matches the labels of a pod."""
    return selector.items() <= labels.items()


@releases
def test_network_policies_name_pods_that_exist(release: str) -> None:
    """Each component of a policy is a pod of the release, except those that are switched off."""
    found = documents(RELEASES[release])
    known = {name for name, _ in pods(found)}
    closed = of_kind(found, "NetworkPolicy")
    for policy in closed:
        labels = policy["spec"]["podSelector"]["matchLabels"]
        assert labels["app.kubernetes.io/instance"] == "geodes"
        assert labels.get("app.kubernetes.io/component", "worker") in known
    if release == "small":
        assert closed == []
    else:
        assert "geodes-closed" in {policy["metadata"]["name"] for policy in closed}


def test_workers_reach_the_internet_but_not_the_cluster() -> None:
    """Only https, and no private address, unless a rule of the values allows it."""
    extra = [{"to": [{"ipBlock": {"cidr": "10.1.2.3/32"}}], "ports": [{"port": 3128}]}]
    found = documents({"networkPolicy": {"extraEgress": extra}})
    (policy,) = [p for p in of_kind(found, "NetworkPolicy") if "worker" in p["metadata"]["name"]]
    internet, proxy = policy["spec"]["egress"]

    assert "10.0.0.0/8" in internet["to"][0]["ipBlock"]["except"]
    assert internet["ports"] == [{"protocol": "TCP", "port": 443}]
    assert proxy == extra[0]


@releases
def test_every_pod_is_restricted(release: str) -> None:
    """Each pod follows the restricted pod security standard and has a read-only root."""
    for name, template in pods(documents(RELEASES[release])):
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
            assert "requests" in container["resources"], name


@releases
def test_settings_exist_and_the_stop_is_long_enough(release: str) -> None:
    """Every variable is one of the program's; a worker is not killed while it requeues its work."""
    known = {environment_name(field) for field in Config.fields}
    known |= {"AWS_SHARED_CREDENTIALS_FILE", "FLOWER_BASIC_AUTH_FILE"}
    found = documents(RELEASES[release])
    (settings,) = [one["data"] for one in of_kind(found, "ConfigMap")]

    assert set(settings) <= known
    for name, template in pods(found):
        for container in template["spec"]["containers"]:
            assert {variable["name"] for variable in container.get("env", ())} <= known, name
        if name == "worker":
            grace = float(settings["GEODES_TASKS_GRACE_SECONDS"])
            assert template["spec"]["terminationGracePeriodSeconds"] > grace + 15


def test_scaling_follows_queued_and_leased_work() -> None:
    """KEDA reads metrics and values that exist, never stops every worker, and honours the limit."""
    found = documents(RELEASES["keda"])
    (scaled,) = of_kind(found, "ScaledObject")
    spec = scaled["spec"]
    (trigger,) = spec["triggers"]
    query = trigger["metadata"]["query"]

    assert spec["scaleTargetRef"]["name"] in names(found, "Deployment")
    assert spec["minReplicaCount"] >= 1
    assert all(isinstance(value, str) for value in trigger["metadata"].values())
    assert set(re.findall(r"geodes_tasks_\w+", query)) == {
        "geodes_tasks_files",
        "geodes_tasks_waiting",
    }
    (states,) = re.findall(r'state=~"([^"]*)"', query)
    (reasons,) = re.findall(r'reason=~"([^"]*)"', query)
    assert {State.PENDING, State.STARTED} <= set(states.split("|")) <= set(State)
    assert set(reasons.split("|")) <= set(Reason)
    # Four transfers at once are the work of one pod with four slots.
    assert query.startswith("clamp_max(")
    assert query.endswith(", 4)")
    assert trigger["metadata"]["threshold"] == "4"
    (worker,) = [d for d in of_kind(found, "Deployment") if "worker" in d["metadata"]["name"]]
    assert "replicas" not in worker["spec"]


@pytest.mark.parametrize("memory", [512, 2048, 16384])
def test_redis_is_full_before_it_is_killed(memory: int) -> None:
    """The limit of Redis leaves room to rewrite its file below the limit of the pod."""
    (redis,) = of_kind(documents({"redis": {"internal": {"memoryMi": memory}}}), "StatefulSet")
    (container,) = redis["spec"]["template"]["spec"]["containers"]
    own = container["args"][container["args"].index("--maxmemory") + 1]

    assert container["resources"]["limits"]["memory"] == f"{memory}Mi"
    assert own.endswith("mb")
    assert 0.55 < float(own[:-2]) / memory <= 0.6


@pytest.mark.parametrize("release", ["default", "claim"])
def test_the_id_of_the_ledger_outlives_the_pod(release: str) -> None:
    """The id of the ledger that a worker used last is on the claim of the downloads."""
    found = documents(RELEASES[release])
    worker = dict(pods(found))["worker"]
    (container,) = worker["spec"]["containers"]
    variables = {v["name"]: v["value"] for v in container["env"]}
    mounts = {m["name"]: m["mountPath"] for m in container["volumeMounts"]}

    assert variables["GEODES_TASKS_STATE_DIR"].startswith(mounts["downloads"] + "/")


def addresses(release: str) -> dict[str, str]:
    """Return the address of Redis of each component that has one."""
    return {
        name: variable["value"]
        for name, template in pods(documents(RELEASES[release]))
        for variable in template["spec"]["containers"][0].get("env", ())
        if variable["name"] == "GEODES_TASKS_REDIS_URL"
    }


def test_each_pod_is_its_own_user_of_redis() -> None:
    """No pod has more rights in Redis than it needs, and each its own password."""
    assert addresses("default") == {
        "worker": "redis://worker@geodes-redis:6379/0",
        "client": "redis://client@geodes-redis:6379/0",
        "flower": "redis://flower@geodes-redis:6379/0",
        "metrics": "redis://viewer@geodes-redis:6379/0",
    }


def test_an_external_redis_is_reached_by_tls() -> None:
    """Plain Redis never crosses a network outside the cluster, and no Redis is started."""
    found = addresses("external")

    assert set(found) == {"worker", "client", "flower", "metrics"}
    for url in found.values():
        assert url.startswith("rediss://")
        assert url.endswith("@redis.example.org:6380/0?ssl_ca_certs=/secrets/redis-ca/ca.pem")
    assert "StatefulSet" not in {d["kind"] for d in documents(RELEASES["external"])}


@pytest.mark.parametrize("mode", ["external", "sentinel"])
def test_a_redis_without_users_of_its_own(mode: str) -> None:
    """A managed Redis often has the one user `default`."""
    values = {"redis": {"mode": mode, "username": "default"}}
    found = yaml.safe_dump(documents(values))

    assert found.count("://default@") == 4
    assert "://worker@" not in found


def test_sentinels_are_all_named() -> None:
    """The address holds every Sentinel and the name of the primary."""
    url = addresses("sentinel")["worker"]

    assert url.startswith("sentinel://worker@sentinel-0.example.org:26379;sentinel-1.")
    assert url.endswith("/0?master_name=geodes&ssl=true")


def test_sentinels_have_a_login_of_their_own() -> None:
    """The password comes from a secret, before the address that it is put into."""
    sentinel = {"tls": True, "username": "watcher"}
    values = {
        "redis": {"mode": "sentinel", "sentinel": sentinel},
        "secrets": {"sentinel": "sentinel"},
    }
    for name, template in pods(documents(values)):
        first, address, *_ = template["spec"]["containers"][0]["env"]
        secret = {"secretKeyRef": {"name": "sentinel", "key": "password"}}
        assert (first["name"], first["valueFrom"]) == ("SENTINEL_PASSWORD", secret), name
        assert address["value"].endswith(
            "&ssl=true&sentinel_username=watcher&sentinel_password=$(SENTINEL_PASSWORD)"
        )


def test_the_claim_survives_an_uninstall() -> None:
    """`helm uninstall` keeps the downloads."""
    (claim,) = of_kind(documents(), "PersistentVolumeClaim")

    assert claim["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]


def test_versions_are_those_of_the_program() -> None:
    """The chart names the version that it installs."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == __version__
    assert chart["version"] == __version__
