"""Names of ``pygeodes.utils.datetime_utils``."""

from geodes_tasks.pygeodes.datetimes import (
    complete_datetime_from_str,
    datetime_to_str,
    str_to_datetime,
)

__all__ = ["complete_datetime_from_str", "datetime_to_str", "str_to_datetime"]
