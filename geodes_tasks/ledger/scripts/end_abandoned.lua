-- End the next downloads that earlier runs on a private server left unfinished. Each is visited once.
-- ARGV: how many downloads to visit. Returns how many batches of earlier runs are left.
local name = redis.call('SMEMBERS', P .. 'abandoned')[1]
if not name then return 0 end
local rest, last = P .. 'abandoned:' .. name, tonumber(ARGV[1]) - 1
sums = {}
for _, id in ipairs(redis.call('ZRANGE', rest, 0, last)) do end_abandoned(id) end
tell_sums()
redis.call('ZREMRANGEBYRANK', rest, 0, last)
if redis.call('EXISTS', rest) == 0 then redis.call('SREM', P .. 'abandoned', name) end
return redis.call('SCARD', P .. 'abandoned')
