"""Schemas of the chart's two custom resources: KEDA 2.13 and newer, and the Prometheus operator.

They allow only what the chart may use, so that a misspelt field is an error, as on a server.
Sources: keda.sh_scaledobjects.yaml and the page on the prometheus scaler of KEDA,
monitoring.coreos.com_servicemonitors.yaml of the Prometheus operator.
"""

from __future__ import annotations

from typing import Any

import jsonschema
import kubernetes_validate

STRING: dict[str, Any] = {"type": "string", "minLength": 1}
COUNT: dict[str, Any] = {"type": "integer", "minimum": 0}
LABELS: dict[str, Any] = {"type": "object", "additionalProperties": {"type": "string"}}
DURATION: dict[str, Any] = {"type": "string", "pattern": r"^(\d+d)?(\d+h)?(\d+m)?(\d+s)?(\d+ms)?$"}


def closed(required: dict[str, Any], optional: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the schema of an object with these properties and no others."""
    return {
        "type": "object",
        "additionalProperties": False,
        "required": list(required),
        "properties": required | (optional or {}),
    }


def resource(version: str, kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a custom resource."""
    metadata = closed({"name": STRING, "namespace": STRING, "labels": LABELS})
    kinds = {"apiVersion": {"const": version}, "kind": {"const": kind}}
    return closed({**kinds, "metadata": metadata, "spec": spec})


PROMETHEUS_TRIGGER = closed(
    {"serverAddress": STRING, "query": STRING, "threshold": STRING},
    dict.fromkeys(("activationThreshold", "ignoreNullValues", "namespace", "timeout"), STRING),
)
SCALED_OBJECT = closed(
    {
        "scaleTargetRef": closed({"name": STRING}, {"apiVersion": STRING, "kind": STRING}),
        "triggers": {
            "type": "array",
            "minItems": 1,
            "items": closed(
                {"type": {"const": "prometheus"}, "metadata": PROMETHEUS_TRIGGER},
                {"metricType": {"enum": ["AverageValue", "Value"]}},
            ),
        },
    },
    {
        "minReplicaCount": COUNT,
        "maxReplicaCount": COUNT,
        "pollingInterval": COUNT,
        "cooldownPeriod": COUNT,
        "advanced": closed(
            {"horizontalPodAutoscalerConfig": closed({"behavior": {"type": "object"}})}
        ),
    },
)
SERVICE_MONITOR = closed(
    {
        "selector": closed({"matchLabels": LABELS}),
        "endpoints": {
            "type": "array",
            "minItems": 1,
            "items": closed({"port": STRING}, {"interval": DURATION, "path": STRING}),
        },
    }
)
SCHEMAS = {
    kind: resource(version, kind, spec)
    for version, kind, spec in (
        ("keda.sh/v1alpha1", "ScaledObject", SCALED_OBJECT),
        ("monitoring.coreos.com/v1", "ServiceMonitor", SERVICE_MONITOR),
    )
}


def check(document: dict[str, Any], version: str) -> None:
    """Check an object against its schema: Kubernetes' of that version, or the one of its kind here.

    Raises:
        kubernetes_validate.ValidationError: a field of Kubernetes is wrong or unknown.
        jsonschema.ValidationError: the same of a custom resource.
    """
    schema = SCHEMAS.get(document["kind"])
    if schema is None:
        kubernetes_validate.validate(document, version, strict=True)
        return
    jsonschema.validate(document, schema)
    if document["kind"] == "ScaledObject":
        kubernetes_validate.validate(autoscaler(document["spec"]), version, strict=True)


def autoscaler(spec: dict[str, Any]) -> dict[str, Any]:
    """Return the HorizontalPodAutoscaler that KEDA makes of a scaled object."""
    advanced = spec["advanced"]["horizontalPodAutoscalerConfig"]
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": f"keda-hpa-{spec['scaleTargetRef']['name']}"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment"}
            | spec["scaleTargetRef"],
            "minReplicas": spec["minReplicaCount"],
            "maxReplicas": spec["maxReplicaCount"],
            "behavior": advanced["behavior"],
        },
    }
