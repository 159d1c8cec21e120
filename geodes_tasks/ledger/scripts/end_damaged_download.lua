-- End a download whose record cannot be understood: by the scripts, or by the worker that claimed it.
-- ARGV: id, token of that worker or ''
-- Returns 1 when it has ended now.
local id, token = ARGV[1], ARGV[2]
local d = record(id)
if is_whole(d) and (d.state ~= 'STARTED' or d.token ~= token) then return 0 end
return end_damaged(d) and 1 or 0
