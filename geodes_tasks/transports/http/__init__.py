"""HTTP transport for the files of the portal, with the only HTTP client of the package."""
