-- Put in front of every script, before account.lua and ready.lua: the key layout and the only
-- functions that change a state.
-- KEYS[1] is the prefix of all keys. Keys are computed, so Redis Cluster is not supported.
--
--   download:<id>            hash    one record: state, spec (JSON), path, batches, account, ...
--   batch:<name>             hash    counters: total, state:<S>, outcome:<O>, waiting:<R>, bytes_*; owner
--   batch:<name>:downloads   zset    its downloads in the order they were asked for
--   batch:<name>:ready:<sources>:<account>  list  its downloads that could start, by the set of
--                            sources that can serve them: geodes, geodes+s3, s3; the head is next
--   batches                  zset    every batch by time
--   account:<name>           hash    paused, paused_until: the account asks nothing of the portal,
--                            by_hand: nor of any other source; see account.lua
--   account:<name>:ring      list    batches with ready work, served in turn
--   account:<name>:ring:<n>  list    the same for batches of priority n, higher ones first
--   account:<name>:levels    set     the priorities other than 0 that have such a list
--   account:<name>:leases    zset    running downloads by the time their lease ends
--   account:<name>:sent      zset    downloads whose message is on its way, by the time it was sent
--   account:<name>:spent     zset    requests that count against the quota, by time
--   account:<name>:tape      zset    downloads whose file is on tape, by the time since when
--   account:<name>:poll      hash    who asks for them next, and when
--   account:<name>:changes   list    why the account got more or fewer places, the newest first
--   holds                    hash    sources and batches that somebody holds
--   source:<name>            hash    until, why: it is out of reach; offered: a worker can use it
--   accounts                 set     every account
--   due                      zset    waiting downloads by the time they go on
--   since:<reason>           zset    the same and those not taken yet, by the time since when
--   forgotten                set     batches whose records are still to be removed
--   forgotten:<name>         zset    these records, of a batch and the time when it was forgotten
--   abandoned                set     batches of earlier runs on a private server, see abandon.lua
--   abandoned:<name>         zset    their downloads, of a batch and the time when the next run began
--   totals                   hash    the counters of a batch and more, over the whole ledger
--   paths                    hash    final path to the download that owns it
--   workers                  zset    workers by the time they were last seen
--   worker:<name>            hash    slots, version, accounts, closed: the folder it cannot write to
--   slots                    string  slots of all live workers
--   looked, settles          string  when somebody last recovered; until when leases are spared
--   schema                   string  version of this layout
--   ledger_id                string  random, made once: another value means another ledger
--   litter                   list    ended downloads, with the last token: nobody owns their parts
--   fence                    string  the last lease token; they only rise
--   mend                     string  a key was rubbish and was removed: recovery builds the rings anew

local P = KEYS[1]

-- Every command goes through here. A key of another type than ours, and a counter that is no number,
-- is rubbish: it is removed where it is met, so that no script fails on it twice.
local server = redis
local redis = { status_reply = server.status_reply }

function redis.call(...)
  local answer = server.pcall(...)
  if type(answer) ~= 'table' or not answer.err then return answer end
  local command, key, counter = ...
  if string.find(answer.err, 'WRONGTYPE', 1, true) then
    server.call('DEL', key)
    server.call('SET', P .. 'mend', '1')
  elseif command == 'HINCRBY'
      and (string.find(answer.err, 'integer', 1, true) or string.find(answer.err, 'overflow', 1, true)) then
    server.call('HDEL', key, counter)
  end
  return server.call(...)
end

-- The number that a text says; `default`, or 0, for a text that says none that counters can hold.
local function number(text, default)
  local value = tonumber(text)
  if value and value > -1e15 and value < 1e15 then return value end
  return default or 0
end

-- The time of this run of a script, in seconds: one moment for all that it does.
local moment = nil

local function now()
  if not moment then
    local time = redis.call('TIME')
    moment = tonumber(time[1]) + tonumber(time[2]) / 1000000
  end
  return moment
end

local function stamp(seconds)
  return string.format('%.3f', seconds)
end

local function download(id) return P .. 'download:' .. id end
local function batch_key(name) return P .. 'batch:' .. name end
local function account_key(name, part) return P .. 'account:' .. (name or '') .. (part or '') end
local function ring_key(account, level)
  return account_key(account, ':ring') .. (level ~= 0 and ':' .. level or '')
end
local function ready_key(name, account, sources)
  return batch_key(name) .. ':ready:' .. sources .. ':' .. account
end
-- The sets of sources that can serve a download.
local SETS = { 'geodes', 'geodes+s3', 's3' }

local function field(id, name)
  return redis.call('HGET', download(id), name) or nil
end

-- What this run of a script has read once: nobody else writes meanwhile.
local members, living, lengths = {}, {}, {}

local function batches_of(id, known)
  if not members[id] then
    local names = {}
    local text = known or field(id, 'batches') or ''
    for name in string.gmatch(text, '%S+') do names[#names + 1] = name end
    members[id] = names
  end
  return members[id]
end

local function set_batches(id, names)
  members[id] = names
  redis.call('HSET', download(id), 'batches', table.concat(names, ' '))
end

-- A batch that was forgotten must not come back to life by being counted in.
local function lives(name)
  if living[name] == nil then living[name] = redis.call('EXISTS', batch_key(name)) == 1 end
  return living[name]
end

-- Counters that a script of many downloads adds up, and tells Redis at its end; nil: told at once.
local sums = nil

local function add(key, counter, amount)
  if amount == 0 then return end
  if not sums then
    redis.call('HINCRBY', key, counter, string.format('%.0f', amount))
  else
    sums[key] = sums[key] or {}
    sums[key][counter] = (sums[key][counter] or 0) + amount
  end
end

local function tell_sums()
  for key, counters in pairs(sums) do
    for counter, amount in pairs(counters) do
      if amount ~= 0 then redis.call('HINCRBY', key, counter, string.format('%.0f', amount)) end
    end
  end
  sums = nil
end

-- Add to one counter of the whole ledger, so that monitors need not read all records.
local function total(counter, amount)
  add(P .. 'totals', counter, amount)
end

-- Add to one counter of the ledger, and in every batch of a download.
local function count(id, counter, amount)
  total(counter, amount)
  for _, name in ipairs(batches_of(id)) do
    if lives(name) then add(batch_key(name), counter, amount) end
  end
end

-- Note how many bytes of a download are on disk; batches keep the sum.
local function set_done(id, bytes)
  bytes = number(bytes)
  local before = number(field(id, 'done'))
  if bytes ~= before then
    redis.call('HSET', download(id), 'done', string.format('%.0f', bytes))
    count(id, 'bytes_done', bytes - before)
  end
end

-- Since when downloads wait, for a reason or for their turn: monitors want the first one.
local function wait_of(state, reason)
  if state == 'PENDING' then return P .. 'since:turn' end
  return state == 'RETRY' and P .. 'since:' .. (reason or '')
end

local function refuse_move(id, from, to)
  if not ALLOWED[(from or '') .. '>' .. to] then
    error('BADMOVE ' .. id .. ' ' .. (from or 'unknown') .. ' to ' .. to)
  end
end

-- What holds of a download only as long as it is in a state ends with it.
local function leave(id, from, reason, outcome)
  local wait = wait_of(from, reason)
  if wait then redis.call('ZREM', wait, id) end
  count(id, 'state:' .. from, -1)
  if from == 'SUCCESS' then count(id, 'outcome:' .. (outcome or ''), -1) end
  if from ~= 'RETRY' then return end
  count(id, 'waiting:' .. (reason or ''), -1)
  redis.call('ZREM', P .. 'due', id)
  redis.call('HDEL', download(id), 'reason', 'due')
  if reason == 'offline' then redis.call('ZREM', account_key(field(id, 'account'), ':tape'), id) end
end

-- Every state change of a record goes through here: refused unless the table of moves has it.
-- `reason` goes with RETRY, `outcome` with SUCCESS.
local function move(id, to, reason, outcome)
  local from, left, ended = unpack(redis.call('HMGET', download(id), 'state', 'reason', 'outcome'))
  refuse_move(id, from, to)
  if from then leave(id, from, left, ended) end
  redis.call('HSET', download(id), 'state', to)
  count(id, 'state:' .. to, 1)
  local wait = wait_of(to, reason)
  if wait then redis.call('ZADD', wait, stamp(now()), id) end
  if to == 'RETRY' then
    count(id, 'waiting:' .. reason, 1)
    redis.call('HSET', download(id), 'reason', reason)
  elseif to == 'SUCCESS' then
    count(id, 'outcome:' .. outcome, 1)
    redis.call('HSET', download(id), 'outcome', outcome)
  end
end

local function open_batch(name, account)
  local time = stamp(now())
  redis.call('SADD', P .. 'accounts', account)
  redis.call('ZADD', P .. 'batches', 'NX', time, name)
  redis.call('HSETNX', batch_key(name), 'account', account)
  redis.call('HSETNX', batch_key(name), 'created', time)
  living[name] = true
end

-- What batches count of a download, as it stands.
local function standing(id)
  local state, batches, size, done, reason, outcome = unpack(redis.call('HMGET', download(id),
    'state', 'batches', 'size', 'done', 'reason', 'outcome'))
  batches_of(id, batches or '')
  return { state = state, size = size, done = done, reason = reason, outcome = outcome }
end

-- Add a download to the counters of one batch, or take it out of them (sign -1).
local function tally(key, it, sign)
  add(key, 'bytes_total', sign * number(it.size))
  add(key, 'bytes_done', sign * number(it.done))
  if it.state then add(key, 'state:' .. it.state, sign) end
  if it.state == 'RETRY' then add(key, 'waiting:' .. (it.reason or ''), sign) end
  if it.state == 'SUCCESS' then add(key, 'outcome:' .. (it.outcome or ''), sign) end
end

-- One more download at the end of a batch's list.
local function list(id, name)
  local key = batch_key(name)
  lengths[name] = (lengths[name] or number(redis.call('HGET', key, 'total'))) + 1
  redis.call('ZADD', key .. ':downloads', lengths[name], id)
  add(key, 'total', 1)
end

-- Count a download, as it stands, in one more batch, once.
-- Batches that were forgotten drop out of its list on the way.
local function attach(id, name, it)
  local key, kept = batch_key(name), {}
  for _, other in ipairs(batches_of(id)) do
    -- A batch of this name may have been forgotten, and this be another one.
    if other == name and redis.call('ZSCORE', key .. ':downloads', id) then return end
    if other ~= name and lives(other) then kept[#kept + 1] = other end
  end
  kept[#kept + 1] = name
  set_batches(id, kept)
  list(id, name)
  tally(key, it, 1)
end

-- Take a download out of a batch; tells whether it was in it.
local function detach(id, name)
  local key = batch_key(name)
  if redis.call('ZREM', key .. ':downloads', id) == 0 then return false end
  add(key, 'total', -1)
  tally(key, standing(id), -1)
  return true
end

-- The limits as the caller's settings have them: window, concurrent, quota count, quota seconds.
local function limits_from(first)
  return {
    window = tonumber(ARGV[first]),
    concurrent = tonumber(ARGV[first + 1]),
    quota_count = tonumber(ARGV[first + 2]),
    quota_seconds = tonumber(ARGV[first + 3]),
  }
end

-- One more entry in the history of failed attempts; the oldest go first.
local function remember(id, entry)
  total('errors:' .. string.match(entry.error, '^[%w_]*'), 1)
  local readable, history = pcall(cjson.decode, field(id, 'history') or '[]')
  if not readable or type(history) ~= 'table' then history = {} end
  history[#history + 1] = entry
  while #history > 20 do table.remove(history, 1) end
  redis.call('HSET', download(id), 'history', cjson.encode(history))
end

-- The caller holds the lease still: nobody else has claimed and nobody has ended it.
local function holds(id, token)
  return field(id, 'state') == 'STARTED' and field(id, 'token') == token
end

-- An ended download that had an attempt: its part files are for the next worker to sweep up.
local function leave_litter(id)
  set_done(id, 0)
  local token = field(id, 'token')
  if token then redis.call('RPUSH', P .. 'litter', id .. ' ' .. token) end
end

local function drop_lease(id)
  redis.call('ZREM', account_key(field(id, 'account'), ':leases'), id)
end

local OPEN = { PENDING = true, STARTED = true, RETRY = true }
local OVER = { SUCCESS = true, FAILURE = true, REVOKED = true }

-- Whether a record says what every script must know of it.
local function is_whole(id)
  local state, account = unpack(redis.call('HMGET', download(id), 'state', 'account'))
  return state and (OPEN[state] or OVER[state]) and account and account ~= '' and #batches_of(id) > 0
end

-- The state in which a record was counted last, where the record itself names none of ours.
local function counted_state(id)
  for _, account in ipairs(redis.call('SMEMBERS', P .. 'accounts')) do
    if redis.call('ZSCORE', account_key(account, ':leases'), id) then return 'STARTED' end
  end
  if redis.call('ZSCORE', wait_of('PENDING'), id) then return 'PENDING' end
  if redis.call('ZSCORE', wait_of('RETRY', field(id, 'reason')), id) then return 'RETRY' end
  return nil
end

local DAMAGED = cjson.encode({ type = 'DamagedRecordError', message = 'the record is damaged',
  hint = 'Enqueue the item again.' })

-- End a record that cannot be understood, so that no script and no worker meets it again.
-- Without a record there is nothing to end.
local function bury(id)
  if redis.call('EXISTS', download(id)) == 0 then return end
  local state = field(id, 'state')
  if OVER[state or ''] then return end
  if not OPEN[state or ''] then
    state = counted_state(id)
    if state then redis.call('HSET', download(id), 'state', state) end
  end
  for _, account in ipairs(redis.call('SMEMBERS', P .. 'accounts')) do
    for _, part in ipairs({ ':leases', ':sent', ':tape' }) do
      redis.call('ZREM', account_key(account, part), id)
    end
  end
  if state then
    if state ~= 'RETRY' then move(id, 'RETRY', 'worker-lost') end
    move(id, 'FAILURE')
  else
    redis.call('HSET', download(id), 'state', 'FAILURE')
    count(id, 'state:FAILURE', 1)
  end
  redis.call('HDEL', download(id), 'cancel')
  redis.call('HSET', download(id), 'error', DAMAGED, 'finished', stamp(now()))
  total('errors:DamagedRecordError', 1)
  leave_litter(id)
end
