-- End a download whose record the worker that claimed it cannot read.
-- ARGV: id, token
-- Returns 1 when it has ended now.
local id, token = ARGV[1], ARGV[2]
if not has_lease(id, token) then return 0 end
end_damaged(id)
return 1
