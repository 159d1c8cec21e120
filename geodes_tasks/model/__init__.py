"""The words that all rooms share: asset, states, checksum, results."""
