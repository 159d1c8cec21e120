-- Put in front of every script: the key layout and the only functions that change a state.
-- KEYS[1] is the prefix of all keys. Keys are computed, so Redis Cluster is not supported.
--
--   download:<id>            hash    one record: state, spec (JSON), path, batches, account, ...
--   batch:<name>             hash    counters: total, state:<S>, outcome:<O>, waiting:<R>, bytes_*
--   batch:<name>:downloads   zset    its downloads in the order they were asked for
--   batch:<name>:ready:<account>  list  its downloads that could start; the head is next
--   batches                  zset    every batch by time
--   account:<name>           hash    paused, paused_until: the account takes no work
--   account:<name>:ring      list    batches with ready work, served in turn
--   account:<name>:leases    zset    running downloads by the time their lease ends
--   account:<name>:sent      zset    downloads whose message is on its way, by the time it was sent
--   account:<name>:spent     zset    requests that count against the quota, by time
--   accounts                 set     every account
--   due                      zset    waiting downloads by the time they go on
--   since:<reason>           zset    the same and those not taken yet, by the time since when
--   totals                   hash    the counters of a batch and more, over the whole ledger
--   paths                    hash    final path to the download that owns it
--   workers                  zset    workers by the time they were last seen
--   worker:<name>            hash    slots, closed: the folder it cannot write to
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
  if from == 'RETRY' then count(id, 'waiting:' .. field(id, 'reason'), -1) end
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
  redis.call('HINCRBY', key, 'bytes_total', field(id, 'size') or 0)
  redis.call('HINCRBY', key, 'bytes_done', field(id, 'done') or 0)
  if not state then return end
  redis.call('HINCRBY', key, 'state:' .. state, 1)
  if state == 'RETRY' then redis.call('HINCRBY', key, 'waiting:' .. field(id, 'reason'), 1) end
  if state == 'SUCCESS' then redis.call('HINCRBY', key, 'outcome:' .. field(id, 'outcome'), 1) end
end

-- Put a download into the ready list of its newest batch, and the batch into its account's ring.
local function make_ready(id, first)
  local names = batches_of(id)
  local name = names[#names]
  local account = field(id, 'account')
  redis.call(first and 'LPUSH' or 'RPUSH', ready_key(name, account), id)
  if redis.call('HSETNX', batch_key(name), 'ringed:' .. account, '1') == 1 then
    redis.call('LPUSH', account_key(account, ':ring'), name)
  end
end

local function is_paused(account, time)
  local until_time = redis.call('HGET', account_key(account), 'paused_until')
  if not until_time then return false end
  if until_time ~= 'resume' and tonumber(until_time) <= time then
    redis.call('HDEL', account_key(account), 'paused_until', 'paused')
    return false
  end
  return true
end

-- How many requests the account may still start in its window, and when the window moves on.
local function quota_left(account, quota_count, quota_seconds, time)
  if quota_count == 0 then return 1e9, 0 end
  local spent = account_key(account, ':spent')
  redis.call('ZREMRANGEBYSCORE', spent, '-inf', stamp(time - quota_seconds))
  local left = quota_count - redis.call('ZCARD', spent)
  if left > 0 then return left, 0 end
  local oldest = redis.call('ZRANGE', spent, 0, 0, 'WITHSCORES')
  return 0, tonumber(oldest[2]) + quota_seconds
end

-- The next ready download of an account, batches in turn; nil when there is none.
local function next_ready(account)
  local ring = account_key(account, ':ring')
  while true do
    local name = redis.call('LINDEX', ring, -1)
    if not name then return nil end
    local id = redis.call('LPOP', ready_key(name, account))
    if id then
      redis.call('RPOPLPUSH', ring, ring)
      return id
    end
    redis.call('RPOP', ring)
    redis.call('HDEL', batch_key(name), 'ringed:' .. account)
  end
end

-- Choose the downloads to send a message for now: never more than can find a place.
-- Returns id, spec, id, spec, ...
local function release(account, limits, time)
  local chosen = {}
  if is_paused(account, time) then return chosen end
  local sent = account_key(account, ':sent')
  local slots = tonumber(redis.call('GET', P .. 'slots') or '0')
  local room = math.max(limits.window, 2 * slots)
  if slots > limits.concurrent then
    room = limits.concurrent - redis.call('ZCARD', account_key(account, ':leases'))
  end
  room = room - redis.call('ZCARD', sent)
  -- With slots to spare for every place, messages wait in the broker: refill in larger strokes.
  if slots <= limits.concurrent and not limits.eager and room < limits.window / 4 then
    return chosen
  end
  local budget = quota_left(account, limits.quota_count, limits.quota_seconds, time)
  local held = {}
  while room > 0 do
    local id = next_ready(account)
    if not id then break end
    local state = field(id, 'state')
    local waits = redis.call('ZSCORE', P .. 'due', id)
    if (state == 'PENDING' or state == 'RETRY') and not waits
        and not redis.call('ZSCORE', sent, id) then
      if field(id, 'reason') == 'quota' and budget < 1 then
        held[#held + 1] = id
        if #held >= 16 then break end
      else
        if field(id, 'reason') == 'quota' then budget = budget - 1 end
        redis.call('ZADD', sent, stamp(time), id)
        chosen[#chosen + 1] = id
        chosen[#chosen + 1] = field(id, 'spec')
        room = room - 1
      end
    end
  end
  for i = #held, 1, -1 do make_ready(held[i], true) end
  return chosen
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
