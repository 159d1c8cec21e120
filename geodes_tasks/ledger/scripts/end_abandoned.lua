-- End the next downloads that earlier runs on a private server left unfinished. Each is visited once.
-- ARGV: how many downloads to visit
-- Returns how many batches of earlier runs are left.
local most = tonumber(ARGV[1])
local name = call('SMEMBERS', P .. 'abandoned')[1]
if not name then return 0 end
local rest = P .. 'abandoned:' .. name
begin_sums()
for _, id in ipairs(call('ZRANGE', rest, 0, most - 1)) do end_if_abandoned(record(id)) end
write_sums()
call('ZREMRANGEBYRANK', rest, 0, most - 1)
if call('EXISTS', rest) == 0 then call('SREM', P .. 'abandoned', name) end
return call('SCARD', P .. 'abandoned')
