"""Render the Helm chart; as a program, write the example of deploy/kubernetes: ``make chart``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import helm_python
import yaml

CHART = Path(__file__).parents[2] / "deploy" / "kubernetes" / "chart"
EXAMPLE = CHART.parent / "example.yaml"
HEADER = """\
# The chart of this folder with its default values, as `make chart` renders it, for those who use
# no Helm: change the image, then kubectl -n geodes-tasks apply -f deploy/kubernetes/example.yaml
"""
Document = dict[str, Any]


NAMESPACE = "geodes-tasks"


def rendered(
    values: dict[str, Any] | None = None, *, name: str = "geodes", namespace: str = NAMESPACE
) -> str:
    """Return the manifests of a release as one text."""
    with helm_python.Chart.load(str(CHART)) as chart:
        files = chart.render(values or {}, name=name, namespace=namespace)
    texts = [text.strip() for name, text in sorted(files.items()) if name.endswith(".yaml")]
    return HEADER + "".join(f"---\n{text}\n" for text in texts if text)


def documents(
    values: dict[str, Any] | None = None, *, name: str = "geodes", namespace: str = NAMESPACE
) -> list[Document]:
    """Return each object of a release."""
    text = rendered(values, name=name, namespace=namespace)
    return [document for document in yaml.safe_load_all(text) if document]


if __name__ == "__main__":
    EXAMPLE.write_text(rendered())
    sys.stderr.write(f"{EXAMPLE} written\n")
