-- Each script of the ledger is checked as Redis gets it, with the library functions that it uses:
-- `python -m tests.lua`, which `make check` runs.
std = "lua51"
read_globals = { "redis", "cjson", "KEYS", "ARGV" }
max_line_length = 110
