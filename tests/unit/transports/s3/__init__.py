"""Units of `transports/s3`."""
