-- Leases: one worker's right to a download for a time, and how attempts end.

-- Whether the caller still has the lease: no other worker has claimed and no script has ended it.
local function has_lease(id, token)
  local state, current = fields(id, 'state', 'token')
  return state == 'STARTED' and current == token
end

-- Remove the lease of an attempt that ends; return its account, when the attempt began, and whether
-- the download is cancelled. nil where the caller has no lease any more.
local function end_lease(id, token)
  local state, current, account, started, cancel =
    fields(id, 'state', 'token', 'account', 'started', 'cancel')
  if state ~= 'STARTED' or current ~= token then return nil end
  call('ZREM', account_key(account, ':leases'), id)
  return account, number(started), cancel
end

-- Add what an attempt transferred to the record; count what no renewal has counted.
local function count_transfer(id, report)
  local batches, counted = fields(id, 'batches', 'counted')
  call('HINCRBY', download_key(id), 'bytes', integer(report.bytes or 0))
  for source, bytes in pairs(report.sources or { [report.source or ''] = report.bytes or 0 }) do
    if bytes ~= 0 then call('HINCRBY', download_key(id), 'bytes:' .. source, integer(bytes)) end
  end
  local came = (report.bytes or 0) - number(counted)
  if came > 0 then
    count_progress(batches, 0, came, report.source or '', report.collection, now())
  end
end

-- Return the answer of a script that ends an attempt: what to send messages for now.
local function answer_with_next(account, limits, time)
  return { 'ok', unpack((release(account, limits, time))) }
end

-- Wait for a file to come back from tape. It costs no request: one poll asks for all of them,
-- soon for the first.
local function wait_for_tape(id, first_seconds, time)
  call('HSETNX', download_key(id), 'offline_since', stamp(time))
  call('HINCRBY', download_key(id), 'gone', 1)
  local account, since = fields(id, 'account', 'offline_since')
  call('ZADD', account_key(account, ':tape'), since, id)
  local poll = account_key(account, ':poll')
  local next_time = number(call('HGET', poll, 'next'))
  if next_time < time or next_time > time + first_seconds then
    call('HSET', poll, 'next', stamp(time + first_seconds))
  end
end

local function wait_until(id, due)
  call('ZADD', P .. 'due', stamp(due), id)
  set_fields(id, 'due', stamp(due))
end
