-- Leases: one worker's right to a download for a time, and how attempts end.

-- Return the record of a download whose lease the caller has, and give the lease back; nil where it
-- has it no more: another worker has claimed it, or a script has ended it. A lease that `is_dead` is
-- ended for a worker that is gone, unless it was renewed meanwhile.
local function end_lease(id, token, is_dead)
  local d = record(id)
  local leases = account_key(d.account, ':leases')
  if d.state ~= 'STARTED' or d.token ~= token then return nil end
  if is_dead and number(call('ZSCORE', leases, id)) > now then return nil end
  call('ZREM', leases, id)
  return d
end

-- Add what an attempt transferred to the values that its record gets; count what no renewal has counted.
local function count_transfer(d, report, values)
  local received = report.bytes or 0
  -- Without a sum, a text stays one: Redis formats a number at length.
  values.bytes = d.bytes and number(d.bytes) + received or received
  for source, bytes in pairs(report.sources or { [report.source or ''] = received }) do
    local name = 'bytes:' .. source
    if number(bytes) ~= 0 then values[name] = d[name] and number(d[name]) + bytes or bytes end
  end
  local came, grown = received - number(d.counted), (values.done or number(d.done)) - number(d.done)
  if came <= 0 and grown == 0 then return end
  count_progress(d.names, grown, math.max(came, 0), report.source or '', report.collection or '')
end

-- Wait for a file to come back from tape. It costs no request: one poll asks for all of them,
-- soon for the first.
local function wait_for_tape(d, first_seconds)
  set(d, { offline_since = d.offline_since or now_text, gone = number(d.gone) + 1 })
  call('ZADD', account_key(d.account, ':tape'), d.offline_since, d.id)
  local poll = account_key(d.account, ':poll')
  local next_time = number(call('HGET', poll, 'next'))
  if next_time < now or next_time > now + first_seconds then
    call('HSET', poll, 'next', stamp(now + first_seconds))
  end
end
