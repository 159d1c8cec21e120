"""The portal's files over HTTP, and the one HTTP client."""
