"""pygeodes' import paths: a script runs with only the package's name replaced."""
