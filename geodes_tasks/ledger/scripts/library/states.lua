-- The state of a download: the only functions that change it.

local ACTIVE = { PENDING = true, STARTED = true, RETRY = true }
local ENDED = { SUCCESS = true, FAILURE = true, REVOKED = true }

local function is_queued(d) return d.state == 'PENDING' or d.state == 'RETRY' end

-- The downloads that wait, for a reason or for their turn, by the time since when.
local function since_key(d) return P .. 'since:' .. (d.state == 'PENDING' and 'turn' or d.reason or '') end

-- Every state change of a record goes through here: refused unless the table of moves has it. What is
-- true of the download only as long as it is in its old state goes first.
-- `values` are fields to set with it: RETRY comes with a `reason`, SUCCESS with an `outcome`.
local function move(d, to, values)
  if not string.find(ALLOWED_MOVES, '\n' .. (d.state or '') .. '>' .. to .. '\n', 1, true) then
    error('BADMOVE ' .. d.id .. ' ' .. (d.state or 'unknown') .. ' to ' .. to)
  end
  if d.state then
    count_state(d, -1)
    if is_queued(d) then call('ZREM', since_key(d), d.id) end
    for _, name in ipairs(names_in(d.batches)) do clear(d, 'present:' .. name) end
    if d.counted then clear(d, 'counted', 'speed') end
    local entry = error_entry(d)
    for _, name in ipairs(entry and d.names or {}) do call('ZREM', P .. 'errors:' .. name, entry) end
  end
  if d.state == 'RETRY' then
    call('ZREM', P .. 'due', d.id)
    if d.reason == 'offline' then call('ZREM', account_key(d.account, ':tape'), d.id) end
    clear(d, 'reason', 'due')
  end
  values.state = to
  set(d, values)
  count_state(d, 1)
  if is_queued(d) then call('ZADD', since_key(d), now_text, d.id) end
  for _, name in ipairs(d.names) do list_error(d, name) end
end

-- Return the history of failed attempts (JSON) with one more; the oldest of more than 20 go.
local function longer_history(d, entry)
  add(LEDGER, 'errors:' .. string.match(entry.error, '^[%w_]*'), 1)
  local history = decoded(d.history) or {}
  history[#history + 1] = entry
  while #history > 20 do table.remove(history, 1) end
  return cjson.encode(history)
end

-- Leave the part files of an ended download to the next worker that sweeps.
local function leave_litter(d)
  set_done(d, 0)
  if tonumber(d.token or '') then call('ZADD', P .. 'litter', d.token, d.id) end
end

-- End a download that no attempt works on and that nothing will start; its part files are left for
-- sweeping, unless the next attempt shall continue from them.
local function revoke(d, keeps_parts)
  move(d, 'REVOKED', { finished = now_text })
  clear(d, 'cancel')
  if not keeps_parts then leave_litter(d) end
end

-- End a download that an earlier run on a private server left unfinished; see ledger/control.
-- Returns whether it was one: no batch of this run has it, so nothing would ever start it.
local function end_left_over(d)
  if not ACTIVE[d.state] or not is_private then return false end
  -- A running one has an attempt of this run, which ends it and removes its part files.
  if call('ZSCORE', account_key(d.account, ':leases'), d.id) then return false end
  for _, name in ipairs(d.names) do
    if not is_earlier(name) then return false end
  end
  revoke(d, true)
  return true
end

local function unfinished_in(name)
  local counts = call('HMGET', batch_key(name), 'total', 'state:FAILURE', 'state:REVOKED',
    'outcome:DOWNLOADED', 'outcome:RESUMED', 'outcome:ALREADY_PRESENT')
  local left = number(table.remove(counts, 1))
  for _, ended in ipairs(counts) do left = left - number(ended) end
  return left
end

-- Whether a record has what every script must know of it.
local function is_whole(d)
  return (ACTIVE[d.state] or ENDED[d.state]) and (d.account or '') ~= '' and (d.batches or '') ~= ''
end

local DAMAGED = '{"type":"DamagedRecordError","message":"the record is damaged",'
  .. '"hint":"Enqueue the item again."}'

-- End a record that cannot be understood, so that no script and no worker meets it again.
-- Returns false where there is no record.
local function end_damaged(d)
  if call('EXISTS', download_key(d.id)) == 0 then return false end
  if ENDED[d.state] then return true end
  -- A text that is no state: the download is counted in the one whose sets have it.
  local counted = ACTIVE[d.state] and d.state
  for _, account in ipairs(all_accounts()) do
    if call('ZREM', account_key(account, ':leases'), d.id) == 1 then counted = counted or 'STARTED' end
    call('ZREM', account_key(account, ':sent'), d.id)
    call('ZREM', account_key(account, ':tape'), d.id)
  end
  for _, state in ipairs(counted and {} or { 'PENDING', 'RETRY' }) do
    d.state = state
    if call('ZSCORE', since_key(d), d.id) then counted = counted or state end
  end
  d.state = counted or nil
  if d.state and d.state ~= 'RETRY' then move(d, 'RETRY', { reason = 'worker-lost' }) end
  move(d, 'FAILURE', { error = DAMAGED, finished = now_text })
  clear(d, 'cancel')
  add(LEDGER, 'errors:DamagedRecordError', 1)
  leave_litter(d)
  return true
end
