-- Recovery: workers that live, and leases of those that do not.

-- Record that a worker was seen. None for a while: Redis was out of reach, so that no lease could be
-- renewed either, and leases are spared for some seconds.
local function note_reachable(time, lease_seconds)
  local last = number(call('GET', P .. 'looked'))
  call('SET', P .. 'looked', stamp(time))
  -- Two seconds at least: workers are seen each half second where leases are short.
  if last > 0 and time - last > math.max(lease_seconds / 2, 2) then
    call('SET', P .. 'settles', stamp(time + 3))
  end
end

local function are_leases_spared(time)
  local settles = number(call('GET', P .. 'settles'))
  return settles > time and settles <= time + 10
end

-- Set the slots of a worker; the sum over all of them is kept by adding the difference.
local function set_slots(worker, slots)
  local key = P .. 'worker:' .. worker
  local difference = slots - number(call('HGET', key, 'slots'))
  if slots > 0 or call('EXISTS', key) == 1 then call('HSET', key, 'slots', slots) end
  if difference ~= 0 then call('SET', P .. 'slots', number(call('GET', P .. 'slots')) + difference) end
end

local function remove_worker(worker)
  set_slots(worker, 0)
  call('DEL', P .. 'worker:' .. worker)
  call('ZREM', P .. 'workers', worker)
end

-- Return how many attempts of a download ended with their worker, as its history has them.
local function worker_deaths_of(id)
  local deaths = 0
  for _, entry in ipairs(decoded(field(id, 'history')) or {}) do
    local text = type(entry) == 'table' and entry.error
    if type(text) == 'string' and string.find(text, '^WorkerLostError') then deaths = deaths + 1 end
  end
  return deaths
end

-- Return the error (JSON) of a download whose attempts are used up.
local function lost_error(id, attempts, error_text)
  local deaths, info = worker_deaths_of(id), cjson.decode(error_text)
  info.message = deaths >= attempts and deaths .. info.message
    or deaths .. ' of ' .. attempts .. ' attempts ended as their worker died or went silent'
  return cjson.encode(info)
end

-- End the attempt of a dead worker; return whether there was one. The entry leaves `leases` first,
-- whatever its record has: a script must not meet it again.
local function end_dead_lease(id, leases, most_attempts, error_text)
  call('ZREM', leases, id)
  if not is_whole(id) then
    end_damaged(id)
    return false
  end
  local state, attempts, worker, source, done, cancel, counted =
    fields(id, 'state', 'attempts', 'worker', 'source', 'done', 'cancel', 'counted')
  if state ~= 'STARTED' then return false end
  for _, name in ipairs({ 'bytes', 'bytes:' .. (source or '') }) do
    call('HINCRBY', download_key(id), name, integer(number(counted)))
  end
  add_to_history(id, { at = stamp(now()), worker = worker or '', source = source or '',
    bytes = number(done), error = 'WorkerLostError: its worker died or went silent' })
  if cancel then
    revoke(id)
    return true
  end
  move(id, 'RETRY', 'worker-lost')
  if number(attempts) < most_attempts then
    make_ready(id, true)
  else
    move(id, 'FAILURE')
    set_error(id, 'FAILURE', lost_error(id, number(attempts), error_text))
    set_fields(id, 'finished', stamp(now()))
    leave_litter(id)
  end
  return true
end
