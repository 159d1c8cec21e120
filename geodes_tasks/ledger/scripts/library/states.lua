-- The state of a download: the only functions that change it.

local ACTIVE = { PENDING = true, STARTED = true, RETRY = true }
local ENDED = { SUCCESS = true, FAILURE = true, REVOKED = true }

local function is_queued(state) return state == 'PENDING' or state == 'RETRY' end

-- The downloads that wait, for a reason or for their turn, by the time since when.
local function since_key(state, reason)
  if state == 'PENDING' then return P .. 'since:turn' end
  return state == 'RETRY' and P .. 'since:' .. (reason or '')
end

local function check_move(id, from, to)
  if not ALLOWED_MOVES[(from or '') .. '>' .. to] then
    error('BADMOVE ' .. id .. ' ' .. (from or 'unknown') .. ' to ' .. to)
  end
end

-- Remove what is true of a download only as long as it is in a state.
local function leave_state(id, from, reason, outcome)
  local since = since_key(from, reason)
  if since then call('ZREM', since, id) end
  count(id, 'state:' .. from, -1)
  if has_error(from) then
    local entry = error_entry(id, from, field(id, 'error'))
    for _, name in ipairs(batches_of(id)) do call('ZREM', errors_key(name), entry) end
  end
  if from == 'SUCCESS' then count(id, 'outcome:' .. (outcome or ''), -1) end
  if from ~= 'RETRY' then return end
  count(id, 'waiting:' .. (reason or ''), -1)
  call('ZREM', P .. 'due', id)
  call('HDEL', download_key(id), 'reason', 'due')
  if reason == 'offline' then call('ZREM', account_key(field(id, 'account'), ':tape'), id) end
end

-- Every state change of a record goes through here: refused unless the table of moves has it.
-- `reason` goes with RETRY, `outcome` with SUCCESS.
local function move(id, to, reason, outcome)
  local from, old_reason, old_outcome = fields(id, 'state', 'reason', 'outcome')
  check_move(id, from, to)
  if from then leave_state(id, from, old_reason, old_outcome) end
  call('HSET', download_key(id), 'state', to)
  count(id, 'state:' .. to, 1)
  if reason then
    count(id, 'waiting:' .. reason, 1)
    call('HSET', download_key(id), 'reason', reason)
  elseif outcome then
    count(id, 'outcome:' .. outcome, 1)
    call('HSET', download_key(id), 'outcome', outcome)
  end
  local since = since_key(to, reason)
  if since then call('ZADD', since, stamp(now()), id) end
end

-- Append to the history of failed attempts; the oldest of more than 20 go.
local function add_to_history(id, entry)
  add_total('errors:' .. string.match(entry.error, '^[%w_]*'), 1)
  local history = decoded(field(id, 'history')) or {}
  history[#history + 1] = entry
  while #history > 20 do table.remove(history, 1) end
  set_fields(id, 'history', cjson.encode(history))
end

-- Leave the part files of an ended download to the next worker that sweeps.
local function leave_litter(id)
  set_done(id, 0)
  local token = tonumber(field(id, 'token') or '')
  if token then call('ZADD', P .. 'litter', integer(token), id) end
end

local function has_litter(id) return call('ZSCORE', P .. 'litter', id) end

-- End a cancelled download that no attempt works on; its part files are left for sweeping.
local function revoke(id)
  move(id, 'REVOKED')
  set_fields(id, 'finished', stamp(now()))
  call('HDEL', download_key(id), 'cancel')
  leave_litter(id)
end

-- End a download that an earlier run on a private server left unfinished; see begin_run.lua.
-- Returns whether it was one: no batch of this run has it, so nothing would ever start it.
local function end_left_over(id)
  if not ACTIVE[field(id, 'state') or ''] or not is_private() then return false end
  local names = other_batches_of(id)
  for _, name in ipairs(names) do
    if not is_earlier(name) then return false end
  end
  -- A batch of this run may have the name of an old one, and must not be counted down.
  names_of[id] = names
  move(id, 'REVOKED')
  set_fields(id, 'finished', stamp(now()))
  call('HDEL', download_key(id), 'cancel')
  return true
end

local function unfinished_in(name)
  local pending, started, retry =
    unpack(call('HMGET', batch_key(name), 'state:PENDING', 'state:STARTED', 'state:RETRY'))
  return number(pending) + number(started) + number(retry)
end

-- Whether a record has what every script must know of it.
local function is_whole(id)
  local state, account, batches = fields(id, 'state', 'account', 'batches')
  return state and (ACTIVE[state] or ENDED[state]) and account and account ~= ''
    and #batches_of(id, batches or '') > 0
end

-- Return the state in which a record was counted last, where its own text is none of ours.
local function counted_state(id)
  for _, account in ipairs(all_accounts()) do
    if call('ZSCORE', account_key(account, ':leases'), id) then return 'STARTED' end
  end
  if call('ZSCORE', since_key('PENDING'), id) then return 'PENDING' end
  return call('ZSCORE', since_key('RETRY', field(id, 'reason')), id) and 'RETRY' or nil
end

local DAMAGED = cjson.encode({ type = 'DamagedRecordError', message = 'the record is damaged',
  hint = 'Enqueue the item again.' })

-- End a record that cannot be understood, so that no script and no worker meets it again.
local function end_damaged(id)
  local state = field(id, 'state')
  if ENDED[state or ''] or call('EXISTS', download_key(id)) == 0 then return end
  if not ACTIVE[state or ''] then
    state = counted_state(id)
    set_fields(id, 'state', state)
  end
  for _, account in ipairs(all_accounts()) do
    for _, part in ipairs({ ':leases', ':sent', ':tape' }) do call('ZREM', account_key(account, part), id) end
  end
  if state then
    if state ~= 'RETRY' then move(id, 'RETRY', 'worker-lost') end
    move(id, 'FAILURE')
  else
    set_fields(id, 'state', 'FAILURE')
    count(id, 'state:FAILURE', 1)
  end
  call('HDEL', download_key(id), 'cancel')
  set_error(id, 'FAILURE', DAMAGED)
  set_fields(id, 'finished', stamp(now()))
  add_total('errors:DamagedRecordError', 1)
  leave_litter(id)
end
