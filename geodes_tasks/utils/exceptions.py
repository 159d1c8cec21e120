"""Names of ``pygeodes.utils.exceptions``: the same classes as in ``geodes_tasks.errors``.

``except RequiresApiKeyException`` of a pygeodes script catches what is raised here. Names that
pygeodes raises for one value of the configuration each are one class here.
"""

from geodes_tasks.errors import (
    ChecksumMismatchError,
    ConfigError,
    KeyMissingError,
    NoDataAssetError,
    TooManyItemsError,
)

InvalidURLException = ConfigError
MissingConfParamException = ConfigError
RequiresApiKeyException = KeyMissingError
InvalidChecksumException = ChecksumMismatchError
DataAssetMissingException = NoDataAssetError
TooManyResultsException = TooManyItemsError

__all__ = [
    "DataAssetMissingException",
    "InvalidChecksumException",
    "InvalidURLException",
    "MissingConfParamException",
    "RequiresApiKeyException",
    "TooManyResultsException",
]
