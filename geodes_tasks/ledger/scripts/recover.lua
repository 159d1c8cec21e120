-- What every worker does now and then: end dead leases, wake what is due, count the slots.
-- ARGV: worker or '', slots, worker seconds, maximum attempts, error (JSON) for poison, lease seconds,
--   version of the worker
-- Returns {ended leases, woken}
local time, ended, woken = now(), 0, 0
if ARGV[1] ~= '' then
  redis.call('ZADD', P .. 'workers', stamp(time), ARGV[1])
  redis.call('HSET', P .. 'worker:' .. ARGV[1], 'slots', ARGV[2], 'version', ARGV[7])
end

-- How many attempts of a download ended with their worker, as its history has them.
local function deaths_of(id)
  local deaths = 0
  for _, entry in ipairs(cjson.decode(field(id, 'history'))) do
    local said = type(entry) == 'table' and entry.error
    if type(said) == 'string' and string.find(said, '^WorkerLostError') then deaths = deaths + 1 end
  end
  return deaths
end

local function lost_error(id, attempts)
  local deaths = deaths_of(id)
  local info = cjson.decode(ARGV[5])
  info.message = deaths >= attempts and deaths .. info.message
    or deaths .. ' of ' .. attempts .. ' attempts ended as their worker died or went silent'
  return cjson.encode(info)
end

-- The entry goes first, out of the list where it was found: whatever its record says or does not say.
local function end_lease(id, leases)
  redis.call('ZREM', leases, id)
  local state, attempts = field(id, 'state'), number(field(id, 'attempts'))
  if not is_whole(id) then return bury(id) end
  if state ~= 'STARTED' then return end
  ended = ended + 1
  remember(id, { at = stamp(time), worker = field(id, 'worker') or '', source = field(id, 'source') or '',
    bytes = number(field(id, 'done')), error = 'WorkerLostError: its worker died or went silent' })
  if field(id, 'cancel') then
    move(id, 'REVOKED')
    redis.call('HSET', download(id), 'finished', stamp(time))
    redis.call('HDEL', download(id), 'cancel')
    leave_litter(id)
  elseif attempts >= tonumber(ARGV[4]) then
    move(id, 'RETRY', 'worker-lost')
    move(id, 'FAILURE')
    redis.call('HSET', download(id), 'error', lost_error(id, attempts), 'finished', stamp(time))
    leave_litter(id)
  else
    move(id, 'RETRY', 'worker-lost')
    make_ready(id, true)
  end
end

-- No clock of ours writes a time after this one.
local later = '(' .. stamp(time + 86400)

-- Keys that programs read without a script are met here, so that rubbish among them is removed.
for key, command in pairs({ accounts = 'SCARD', batches = 'ZCARD', due = 'ZCARD', workers = 'ZCARD',
    forgotten = 'SCARD', totals = 'HLEN', paths = 'HLEN', holds = 'HLEN', litter = 'LLEN', slots = 'GET',
    fence = 'GET', hooks = 'GET', schema = 'GET', ['since:turn'] = 'ZCARD' }) do
  redis.call(command, P .. key)
end
for _, account in ipairs(redis.call('SMEMBERS', P .. 'accounts')) do
  for part, command in pairs({ [''] = 'HLEN', [':leases'] = 'ZCARD', [':sent'] = 'ZCARD', [':spent'] = 'ZCARD',
      [':tape'] = 'ZCARD', [':poll'] = 'HLEN', [':changes'] = 'LLEN', [':levels'] = 'SCARD' }) do
    redis.call(command, account_key(account, part))
  end
  for _, level in ipairs(levels_of(account)) do redis.call('LLEN', ring_key(account, level)) end
  redis.call('ZREMRANGEBYSCORE', account_key(account, ':spent'), later, '+inf')
  for _, part in ipairs({ ':leases', ':sent' }) do
    local key = account_key(account, part)
    for _, id in ipairs(redis.call('ZRANGEBYSCORE', key, later, '+inf', 'LIMIT', 0, 100)) do
      redis.call('ZADD', key, stamp(time), id)
    end
  end
end

-- Rubbish was removed that may have been a ring or the names of accounts: both are built anew.
if redis.call('GET', P .. 'mend') then
  redis.call('DEL', P .. 'mend')
  for _, name in ipairs(redis.call('ZREVRANGE', P .. 'batches', 0, 999)) do
    local own = redis.call('HGET', batch_key(name), 'account')
    if own then redis.call('SADD', P .. 'accounts', own) end
    local level = number(redis.call('HGET', batch_key(name), 'priority'))
    for _, account in ipairs(redis.call('SMEMBERS', P .. 'accounts')) do
      if redis.call('LLEN', ready_key(name, account)) > 0 then
        redis.call('LREM', ring_key(account, level), 0, name)
        redis.call('HDEL', batch_key(name), 'ringed:' .. account)
        enter_ring(name, account)
      end
    end
  end
end

-- Nobody has looked for a while: Redis was away or out of reach, and nobody could renew either.
local last = number(redis.call('GET', P .. 'looked'))
redis.call('SET', P .. 'looked', stamp(time))
-- Two seconds at least: looks are half a second apart where leases are short.
if last > 0 and time - last > math.max(tonumber(ARGV[6]) / 2, 2) then
  redis.call('SET', P .. 'settles', stamp(time + 3))
end
local settles = number(redis.call('GET', P .. 'settles'))
local settled = settles <= time or settles > time + 10

for _, account in ipairs(settled and redis.call('SMEMBERS', P .. 'accounts') or {}) do
  local leases = account_key(account, ':leases')
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', leases, '-inf', stamp(time), 'LIMIT', 0, 500)) do
    end_lease(id, leases)
  end
end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', P .. 'due', '-inf', stamp(time), 'LIMIT', 0, 1000)) do
  redis.call('ZREM', P .. 'due', id)
  local state = field(id, 'state')
  if state == 'PENDING' or state == 'RETRY' then
    make_ready(id, true)
    woken = woken + 1
  elseif not is_whole(id) then
    bury(id)
  end
end
local oldest = stamp(time - tonumber(ARGV[3]))
for _, name in ipairs(redis.call('ZRANGEBYSCORE', P .. 'workers', '-inf', oldest)) do
  redis.call('DEL', P .. 'worker:' .. name)
  redis.call('ZREM', P .. 'workers', name)
end
redis.call('ZREMRANGEBYSCORE', P .. 'workers', later, '+inf')
local slots = 0
for _, name in ipairs(redis.call('ZRANGE', P .. 'workers', 0, -1)) do
  slots = slots + number(redis.call('HGET', P .. 'worker:' .. name, 'slots'))
end
redis.call('SET', P .. 'slots', slots)
return { ended, woken }
