-- Recovery: workers that live, and leases of those that do not.

-- Correct the scores after `latest` of a sorted set of times.
local function set_back(key, latest, seconds)
  local rows = call('ZRANGEBYSCORE', key, '(' .. stamp(latest), '+inf', 'WITHSCORES', 'LIMIT', 0, 1000)
  for index = 1, #rows, 2 do call('ZADD', key, stamp(number(rows[index + 1]) - seconds), rows[index]) end
end

local function set_fields_back(key, seconds, ...)
  for _, field in ipairs({ ... }) do
    local time = number(call('HGET', key, field))
    if time > now then call('HSET', key, field, stamp(time - seconds)) end
  end
end

-- Correct the times that were written before the clock of Redis was set back by some seconds: leases,
-- waits, outages and signs of life would hold for that much longer, and what is over would begin again.
local function follow_clock(seconds, lease_seconds)
  for _, account in ipairs(all_accounts()) do
    -- What was renewed since ends within a lease from now.
    set_back(account_key(account, ':leases'), now + lease_seconds, seconds)
    set_back(account_key(account, ':sent'), now, seconds)
    set_back(account_key(account, ':spent'), now, seconds)
    set_fields_back(account_key(account), seconds, 'paused_until', 'probed', 'lowered', 'quota_asked')
    set_fields_back(account_key(account, ':poll'), seconds, 'next', 'till')
  end
  for _, source in ipairs({ 's3', unpack(web_hosts()) }) do
    set_fields_back(P .. 'source:' .. source, seconds, 'until', 'avoid', 'worked', 'offered')
  end
  set_back(P .. 'due', now, seconds)
  set_back(P .. 'workers', now, seconds)
  call('DEL', P .. 'recoverer')
end

-- Record that a worker was seen. None for a while: Redis was out of reach, so that no lease could be
-- renewed either, and leases are spared for some seconds.
local function note_reachable(lease_seconds)
  local last = number(call('GET', P .. 'looked'))
  call('SET', P .. 'looked', now_text)
  if last > now + 1 then follow_clock(last - now, lease_seconds) end
  -- Two seconds at least: workers are seen each half second where leases are short.
  if last > 0 and now - last > math.max(lease_seconds / 2, 2) then
    call('SET', P .. 'settles', stamp(now + 3))
  end
end

local function are_leases_spared()
  local settles = number(call('GET', P .. 'settles'))
  return settles > now and settles <= now + 10
end

-- Sum the slots of all workers: some ten microseconds for a hundred of them, and only after a change.
local function sum_slots()
  local sum = 0
  for _, slots in ipairs(call('HVALS', P .. 'slots_of')) do sum = sum + number(slots) end
  call('SET', P .. 'slots', sum)
end

-- End the attempt of a dead worker; return whether there was one. The entry leaves `leases` first,
-- whatever its record has: a script must not meet it again.
local function end_dead_lease(id, leases, most_attempts, error_text)
  call('ZREM', leases, id)
  local d = record(id)
  if not is_whole(d) then end_damaged(d) end
  if d.state ~= 'STARTED' then return false end
  local source, deaths, attempts = d.source or '', number(d.deaths) + 1, number(d.attempts)
  local values = { reason = 'worker-lost', deaths = deaths, bytes = number(d.bytes) + number(d.counted) }
  values['bytes:' .. source] = number(d['bytes:' .. source]) + number(d.counted)
  values.history = longer_history(d, { at = now_text, worker = d.worker or '', source = source,
    bytes = number(d.done), error = 'WorkerLostError: its worker died or went silent' })
  if d.cancel then
    values.reason = nil
    set(d, values)
    revoke(d)
    return true
  end
  move(d, 'RETRY', values)
  if attempts < most_attempts then
    make_ready(d, true)
  else
    move(d, 'FAILURE', { error = string.format(error_text, deaths, attempts), finished = now_text })
    leave_litter(d)
  end
  return true
end
