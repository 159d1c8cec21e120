-- Who is next: the ready lists of the batches, and what is released from them.

-- The batch that a download is served for: the newest.
local function batch_of(id)
  local names = batches_of(id)
  return names[#names]
end

-- Have a batch with ready work served in turn; a held one has no turn.
local function enter_ring(name, account)
  local key = batch_key(name)
  if redis.call('HSETNX', key, 'ringed:' .. account, '1') == 0 then return end
  redis.call('SADD', P .. 'accounts', account)
  local level = number(redis.call('HGET', key, 'priority'))
  if level ~= 0 then redis.call('SADD', account_key(account, ':levels'), level) end
  redis.call('LPUSH', ring_key(account, level), name)
end

-- Put a download into the ready list of its newest batch, and the batch into its account's ring.
local function make_ready(id, first, known_account)
  local name, account = batch_of(id), known_account or field(id, 'account')
  if not is_whole(id) then return bury(id) end
  redis.call(first and 'LPUSH' or 'RPUSH', ready_key(name, account), id)
  enter_ring(name, account)
end

-- Whether a download waits for a time, or for its file to come back from tape.
local function waits(id, state)
  if redis.call('ZSCORE', P .. 'due', id) then return true end
  return state == 'RETRY' and field(id, 'reason') == 'offline'
    and redis.call('ZSCORE', account_key(field(id, 'account'), ':tape'), id)
end

-- The living batches that a download is in, apart from one.
local function others_of(id, batch)
  local found = {}
  for _, name in ipairs(batches_of(id)) do
    local has = name ~= batch and redis.call('ZSCORE', batch_key(name) .. ':downloads', id)
    if has then found[#found + 1] = name end
  end
  return found
end

-- A download that these batches wait for is served for them alone from now on.
local function hand_over(id, state, others)
  set_batches(id, others)
  local open = state == 'PENDING' or state == 'RETRY'
  local sent = redis.call('ZSCORE', account_key(field(id, 'account'), ':sent'), id)
  if open and not sent and not waits(id, state) then make_ready(id) end
end

-- Have a download wait for its file to come back from tape. It costs no request: one poller asks
-- for all of them, soon for the first.
local function park(id, first_seconds, time)
  local account = field(id, 'account')
  redis.call('HSETNX', download(id), 'offline_since', stamp(time))
  redis.call('HINCRBY', download(id), 'gone', 1)
  redis.call('ZADD', account_key(account, ':tape'), field(id, 'offline_since'), id)
  local poll = account_key(account, ':poll')
  local next_time = number(redis.call('HGET', poll, 'next'))
  if next_time < time or next_time > time + first_seconds then
    redis.call('HSET', poll, 'next', stamp(time + first_seconds))
  end
end

-- The source without which a download cannot be had, if somebody holds it; nil: it can be had.
local function held_source(id)
  local found = nil
  local readable, spec = pcall(cjson.decode, field(id, 'spec') or '')
  -- The claim of a record that cannot be read ends it.
  if not readable or type(spec) ~= 'table' or type(spec.hrefs) ~= 'table' then return nil end
  for source in pairs(spec.hrefs) do
    if redis.call('HEXISTS', P .. 'holds', 'source:' .. source) == 0 then return nil end
    found = source
  end
  return found
end

-- Somebody holds something: put a download aside that may not start. Gives the sources that it
-- must leave alone, and whether it stays.
local function heed_holds(id)
  local name = batch_of(id)
  if name and redis.call('HEXISTS', P .. 'holds', 'batch:' .. name) == 1 then
    redis.call('LPUSH', ready_key(name, field(id, 'account')), id)
    return '', true
  end
  local held = held_source(id)
  if held then redis.call('RPUSH', P .. 'held:' .. held, id) return '', true end
  local notes = ''
  for _, hold in ipairs(redis.call('HKEYS', P .. 'holds')) do
    local source = string.match(hold, '^source:(.*)')
    if source then notes = notes .. ' held:' .. source end
  end
  return notes, false
end

-- The next ready download of an account: higher priorities first, batches of one in turn, as many
-- times in a row as their weight says. nil when there is none.
local function next_ready(account, levels, holds)
  for _, level in ipairs(levels) do
    local ring = ring_key(account, level)
    while true do
      local name = redis.call('LINDEX', ring, -1)
      if not name then break end
      local held = holds and redis.call('HEXISTS', P .. 'holds', 'batch:' .. name) == 1
      local id = not held and redis.call('LPOP', ready_key(name, account))
      if id then
        local weight = number(redis.call('HGET', batch_key(name), 'weight'), 1)
        if weight == 1 or redis.call('HINCRBY', batch_key(name), 'turns', 1) >= weight then
          if weight > 1 then redis.call('HDEL', batch_key(name), 'turns') end
          redis.call('RPOPLPUSH', ring, ring)
        end
        return id
      end
      redis.call('RPOP', ring)
      redis.call('HDEL', batch_key(name), 'ringed:' .. account)
    end
  end
  return nil
end

-- The priorities of an account's batches with ready work, the highest first.
local function levels_of(account)
  local levels = { 0 }
  for _, level in ipairs(redis.call('SMEMBERS', account_key(account, ':levels'))) do
    levels[#levels + 1] = number(level)
  end
  table.sort(levels, function(a, b) return a > b end)
  return levels
end

-- With a place for every slot, messages wait in the broker, where nothing overtakes them: so no
-- more of them than some seconds' work, as the last strokes were drained.
local FIRST_WINDOW = 64

local function window_of(account, limits)
  local window = redis.call('HGET', account_key(account), 'window')
  return math.min(math.max(number(window, FIRST_WINDOW), 1), limits.window)
end

local function note_stroke(account, limits, window, time)
  local key = account_key(account)
  local took = time - number(redis.call('HGET', key, 'refilled'), time - 1)
  if took < 0.5 then window = math.min(window * 2, limits.window) end
  if took > 2 then window = math.max(math.floor(window / 2), 1) end
  redis.call('HSET', key, 'window', window, 'refilled', stamp(time))
end

-- Choose the downloads to send a message for now: never more than can find a place.
-- Returns id, spec, id, spec, ...
local function release(account, limits, time)
  local chosen = {}
  if is_paused(account, time) then return chosen end
  local sent = account_key(account, ':sent')
  local slots = number(redis.call('GET', P .. 'slots'))
  local places = places_of(account, limits.concurrent)
  local window = window_of(account, limits)
  local room = math.max(window, 2 * slots)
  if slots > places then
    room = places - redis.call('ZCARD', account_key(account, ':leases'))
  end
  local probes = probes_left(account)
  room = math.min(room, probes) - redis.call('ZCARD', sent)
  -- Where messages wait in the broker: refill in larger strokes.
  local stroke = slots <= places and room >= window / 4
  if slots <= places and not limits.eager and not stroke and probes > 1 then return chosen end
  local budget = quota_left(account, limits.quota_count, limits.quota_seconds, time)
  local levels, holds = levels_of(account), redis.call('EXISTS', P .. 'holds') == 1
  local put_back = {}
  while room > 0 do
    local id = next_ready(account, levels, holds)
    if not id then break end
    local state = field(id, 'state')
    local starts = (state == 'PENDING' or state == 'RETRY') and not waits(id, state)
      and not redis.call('ZSCORE', sent, id)
    local held = starts and holds and held_source(id)
    if held then
      redis.call('RPUSH', P .. 'held:' .. held, id)
    elseif not (OPEN[state or ''] or OVER[state or '']) then
      bury(id)
    elseif starts then
      if field(id, 'reason') == 'quota' and budget < 1 then
        put_back[#put_back + 1] = id
        if #put_back >= 16 then break end
      else
        if field(id, 'reason') == 'quota' then budget = budget - 1 end
        redis.call('ZADD', sent, stamp(time), id)
        chosen[#chosen + 1] = id
        chosen[#chosen + 1] = field(id, 'spec') or ''
        room = room - 1
      end
    end
  end
  for i = #put_back, 1, -1 do make_ready(put_back[i], true) end
  if stroke and room < window / 4 then note_stroke(account, limits, window, time) end
  return chosen
end

