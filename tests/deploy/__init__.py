"""The files that deployments are made of: valid, consistent, and run where that can be had."""
