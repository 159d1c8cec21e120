"""The JSON Schemas of docs/schema, as a check of real output."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema

FOLDER = Path(__file__).parents[1] / "docs" / "schema"


def check_form(name: str, data: object) -> None:
    """Check data against a schema; a field that the schema does not name is an error here.

    Raises:
        jsonschema.ValidationError: a field is missing, too much, or of another type.
    """
    schema = json.loads((FOLDER / f"{name}.json").read_text())
    jsonschema.Draft202012Validator(_closed(schema)).validate(data)


def _closed(schema: Any) -> Any:
    """Return the schema without room for more fields: users' copies leave room for new ones."""
    if isinstance(schema, list):
        return [_closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(value) for key, value in schema.items()}
    return closed | {"additionalProperties": False} if "properties" in closed else closed
