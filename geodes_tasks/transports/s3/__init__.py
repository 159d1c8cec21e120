"""The datalake's objects over S3."""
