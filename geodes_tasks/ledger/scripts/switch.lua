-- A download that runs beside its paused account wants to go on over the portal: from now on it
-- is one of the account's again. ARGV: id, token, concurrent
-- Returns 'lost', '' when it may, else why the account takes nothing more.
local id, token = ARGV[1], ARGV[2]
if not holds(id, token) then return 'lost' end
local time, lane = now(), field(id, 'account')
local account = string.gsub(lane, ':s3$', '')
local leases = account_key(account, ':leases')
local running = redis.call('ZCARD', leases)
local lease = redis.call('ZSCORE', account_key(lane, ':leases'), id)
redis.call('ZREM', account_key(lane, ':leases'), id)
if lease then redis.call('ZADD', leases, lease, id) end
-- The datalake did not give it: it waits with the others now.
redis.call('HSET', download(id), 'account', account, 's3', '0')
if is_paused(account, time) then return redis.call('HGET', account_key(account), 'paused') end
if redis.call('HEXISTS', account_key(account), 'probe') == 1 then return 'quota' end
return running < places_of(account, tonumber(ARGV[3])) and '' or 'full'
