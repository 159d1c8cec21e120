-- Put in front of every script, before account.lua and ready.lua: the key layout and the only
-- functions that change a state.
-- KEYS[1] is the prefix of all keys. Keys are computed, so Redis Cluster is not supported.
--
--   download:<id>            hash    one record: state, spec (JSON), path, batches, account, ...
--   batch:<name>             hash    counters: total, state:<S>, outcome:<O>, waiting:<R>, bytes_*
--   batch:<name>:downloads   zset    its downloads in the order they were asked for
--   batch:<name>:ready:<account>  list  its downloads that could start; the head is next
--   batches                  zset    every batch by time
--   account:<name>           hash    paused, paused_until: the account takes no work; see account.lua
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
--   held:<source>            list    ready downloads that only this held source has
--   source:<name>            hash    bytes, seconds, at: its speed, fading; until, why; offered
--   accounts                 set     every account
--   due                      zset    waiting downloads by the time they go on
--   since:<reason>           zset    the same and those not taken yet, by the time since when
--   forgotten                set     batches whose records are still to be removed
--   forgotten:<name>         zset    these records, of a batch and the time when it was forgotten
--   totals                   hash    the counters of a batch and more, over the whole ledger
--   paths                    hash    final path to the download that owns it
--   workers                  zset    workers by the time they were last seen
--   worker:<name>            hash    slots, version, closed: the folder it cannot write to
--   slots                    string  slots of all live workers
--   looked, settles          string  when somebody last recovered; until when leases are spared
--   schema                   string  version of this layout
--   litter                   list    ended downloads, with the last token: nobody owns their parts
--   fence                    string  the last lease token; they only rise

local P = KEYS[1]

local function now()
  local time = redis.call('TIME')
  return tonumber(time[1]) + tonumber(time[2]) / 1000000
end

local function stamp(seconds)
  return string.format('%.3f', seconds)
end

local function download(id) return P .. 'download:' .. id end
local function batch_key(name) return P .. 'batch:' .. name end
local function account_key(name, part) return P .. 'account:' .. name .. (part or '') end
local function ring_key(account, level)
  return account_key(account, ':ring') .. (level ~= 0 and ':' .. level or '')
end
local function ready_key(name, account) return batch_key(name) .. ':ready:' .. account end

local function field(id, name)
  return redis.call('HGET', download(id), name) or nil
end

local function batches_of(id)
  local names = {}
  for name in string.gmatch(field(id, 'batches') or '', '%S+') do names[#names + 1] = name end
  return names
end

-- Add to one counter of the whole ledger, so that monitors need not read all records.
local function total(counter, amount)
  redis.call('HINCRBY', P .. 'totals', counter, amount)
end

-- Add to one counter of the ledger, and in every batch of a download.
local function count(id, counter, amount)
  if amount == 0 then return end
  total(counter, amount)
  for _, name in ipairs(batches_of(id)) do
    -- A batch that was forgotten must not come back to life by being counted in.
    if redis.call('EXISTS', batch_key(name)) == 1 then
      redis.call('HINCRBY', batch_key(name), counter, amount)
    end
  end
end

-- Note how many bytes of a download are on disk; batches keep the sum.
local function set_done(id, bytes)
  local before = tonumber(field(id, 'done') or '0')
  if bytes ~= before then
    redis.call('HSET', download(id), 'done', string.format('%.0f', bytes))
    count(id, 'bytes_done', string.format('%.0f', bytes - before))
  end
end

-- Since when downloads wait, for a reason or for their turn: monitors want the first one.
local function wait_of(id, state)
  if state == 'PENDING' then return P .. 'since:turn' end
  return state == 'RETRY' and P .. 'since:' .. field(id, 'reason')
end

-- Every state change goes through here: refused unless the table of moves has it.
-- `reason` goes with RETRY, `outcome` with SUCCESS.
local function move(id, to, reason, outcome)
  local from = field(id, 'state')
  if not ALLOWED[(from or '') .. '>' .. to] then
    error('BADMOVE ' .. id .. ' ' .. (from or 'unknown') .. ' to ' .. to)
  end
  local wait = wait_of(id, from)
  if wait then redis.call('ZREM', wait, id) end
  if from then count(id, 'state:' .. from, -1) end
  if from == 'RETRY' then
    local reason = field(id, 'reason')
    count(id, 'waiting:' .. reason, -1)
    if reason == 'offline' then
      redis.call('ZREM', account_key(field(id, 'account'), ':tape'), id)
    end
  end
  if from == 'SUCCESS' then count(id, 'outcome:' .. field(id, 'outcome'), -1) end
  count(id, 'state:' .. to, 1)
  if to == 'RETRY' then count(id, 'waiting:' .. reason, 1) end
  if to == 'SUCCESS' then count(id, 'outcome:' .. outcome, 1) end
  redis.call('HSET', download(id), 'state', to)
  redis.call('HDEL', download(id), 'reason', 'due')
  if reason then redis.call('HSET', download(id), 'reason', reason) end
  if outcome then redis.call('HSET', download(id), 'outcome', outcome) end
  redis.call('ZREM', P .. 'due', id)
  wait = wait_of(id, to)
  if wait then redis.call('ZADD', wait, stamp(now()), id) end
end

local function open_batch(name, account)
  local time = stamp(now())
  redis.call('SADD', P .. 'accounts', account)
  redis.call('ZADD', P .. 'batches', 'NX', time, name)
  redis.call('HSETNX', batch_key(name), 'account', account)
  redis.call('HSETNX', batch_key(name), 'created', time)
end

-- Add a download as it stands (state nil: not at all yet) to the counters of one batch, or take
-- it out of them (sign -1).
local function tally(key, id, state, sign)
  for counter, name in pairs({ bytes_total = 'size', bytes_done = 'done' }) do
    local bytes = tonumber(field(id, name) or '0')
    if bytes > 0 then redis.call('HINCRBY', key, counter, string.format('%.0f', sign * bytes)) end
  end
  if not state then return end
  redis.call('HINCRBY', key, 'state:' .. state, sign)
  if state == 'RETRY' then redis.call('HINCRBY', key, 'waiting:' .. field(id, 'reason'), sign) end
  if state == 'SUCCESS' then redis.call('HINCRBY', key, 'outcome:' .. field(id, 'outcome'), sign) end
end

-- Count a download, in the state it has (nil: none yet), in one more batch, once.
-- Batches that were forgotten drop out of its list on the way.
local function attach(id, name, state)
  local key = batch_key(name)
  if redis.call('ZSCORE', key .. ':downloads', id) then return end
  redis.call('ZADD', key .. ':downloads', redis.call('HINCRBY', key, 'total', 1), id)
  local kept = {}
  for _, other in ipairs(batches_of(id)) do
    local lives = other ~= name and redis.call('EXISTS', batch_key(other)) == 1
    if lives then kept[#kept + 1] = other end
  end
  kept[#kept + 1] = name
  redis.call('HSET', download(id), 'batches', table.concat(kept, ' '))
  tally(key, id, state, 1)
end

-- Take a download out of a batch; tells whether it was in it.
local function detach(id, name, state)
  local key = batch_key(name)
  if redis.call('ZREM', key .. ':downloads', id) == 0 then return false end
  redis.call('HINCRBY', key, 'total', -1)
  tally(key, id, state, -1)
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
  local history = cjson.decode(field(id, 'history') or '[]')
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
