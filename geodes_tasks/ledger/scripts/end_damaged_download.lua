-- End a download whose record the worker that claimed it cannot read.
-- ARGV: id, token
-- Returns 1 when it has ended now.
local id, token = ARGV[1], ARGV[2]
local d = leased(id, token)
return d and end_damaged(d) and 1 or 0
