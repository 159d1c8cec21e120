-- Recovery: workers that live, and leases of those that do not.

-- Record that a worker was seen. None for a while: Redis was out of reach, so that no lease could be
-- renewed either, and leases are spared for some seconds.
local function note_reachable(lease_seconds)
  local last = number(call('GET', P .. 'looked'))
  call('SET', P .. 'looked', stamp(now))
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
  values.history = longer_history(d, { at = stamp(now), worker = d.worker or '', source = source,
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
    move(d, 'FAILURE', { error = string.format(error_text, deaths, attempts), finished = stamp(now) })
    leave_litter(d)
  end
  return true
end
