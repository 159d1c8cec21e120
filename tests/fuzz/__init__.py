"""The property tests under a fuzzer that watches which lines its bytes reach."""
