-- Progress renews a lease. ARGV: id, token, lease seconds, bytes on disk (-1: unknown), source
-- Returns ok | lost | cancelled
local id, token = ARGV[1], ARGV[2]
if not holds(id, token) then return 'lost' end
if field(id, 'cancel') then return 'cancelled' end
local leases = account_key(field(id, 'account'), ':leases')
redis.call('ZADD', leases, stamp(now() + tonumber(ARGV[3])), id)
if tonumber(ARGV[4]) >= 0 then set_done(id, tonumber(ARGV[4])) end
if ARGV[5] ~= '' then redis.call('HSET', download(id), 'source', ARGV[5]) end
return 'ok'
