-- What every worker does now and then: end dead leases, wake what is due, count the slots.
-- ARGV: worker or '', slots, worker seconds, maximum attempts, error (JSON) for poison, lease seconds,
--   version of the worker
-- Returns {ended leases, woken}
local time, ended, woken = now(), 0, 0
if ARGV[1] ~= '' then
  redis.call('ZADD', P .. 'workers', stamp(time), ARGV[1])
  redis.call('HSET', P .. 'worker:' .. ARGV[1], 'slots', ARGV[2], 'version', ARGV[7])
end

local function end_lease(id)
  drop_lease(id)
  if field(id, 'state') ~= 'STARTED' then return end
  ended = ended + 1
  remember(id, { at = stamp(time), worker = field(id, 'worker'), source = field(id, 'source') or '',
    bytes = tonumber(field(id, 'done') or '0'), error = 'WorkerLostError: its worker died or went silent' })
  if field(id, 'cancel') then
    move(id, 'REVOKED')
    redis.call('HSET', download(id), 'finished', stamp(time))
    redis.call('HDEL', download(id), 'cancel')
    leave_litter(id)
  elseif tonumber(field(id, 'attempts')) >= tonumber(ARGV[4]) then
    move(id, 'RETRY', 'worker-lost')
    move(id, 'FAILURE')
    redis.call('HSET', download(id), 'error', ARGV[5], 'finished', stamp(time))
    leave_litter(id)
  else
    move(id, 'RETRY', 'worker-lost')
    make_ready(id, true)
  end
end

-- Nobody has looked for a while: Redis was away or out of reach, and nobody could renew either.
local last = tonumber(redis.call('GET', P .. 'looked') or '0')
redis.call('SET', P .. 'looked', stamp(time))
-- Two seconds at least: looks are half a second apart where leases are short.
if last > 0 and time - last > math.max(tonumber(ARGV[6]) / 2, 2) then
  redis.call('SET', P .. 'settles', stamp(time + 3))
end
local settled = tonumber(redis.call('GET', P .. 'settles') or '0') <= time

for _, account in ipairs(settled and redis.call('SMEMBERS', P .. 'accounts') or {}) do
  local leases = account_key(account, ':leases')
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', leases, '-inf', stamp(time), 'LIMIT', 0, 500)) do
    end_lease(id)
  end
end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', P .. 'due', '-inf', stamp(time), 'LIMIT', 0, 1000)) do
  redis.call('ZREM', P .. 'due', id)
  make_ready(id, true)
  woken = woken + 1
end
local oldest = stamp(time - tonumber(ARGV[3]))
for _, name in ipairs(redis.call('ZRANGEBYSCORE', P .. 'workers', '-inf', oldest)) do
  redis.call('DEL', P .. 'worker:' .. name)
  redis.call('ZREM', P .. 'workers', name)
end
local slots = 0
for _, name in ipairs(redis.call('ZRANGE', P .. 'workers', 0, -1)) do
  slots = slots + tonumber(redis.call('HGET', P .. 'worker:' .. name, 'slots') or '0')
end
redis.call('SET', P .. 'slots', slots)
return { ended, woken }
