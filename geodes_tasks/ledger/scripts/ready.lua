-- Who is next: the ready lists of the batches, and what is released from them.

-- Ids that no longer wait, and batches with no open list, that one call looks at.
local LOOKS = 100
-- Seconds for which the offer of a worker that can use S3 counts.
local OFFER_SECONDS = 120

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

-- The set of sources that can serve a download.
local function sources_of(id)
  local sources = field(id, 'sources')
  return (sources == 's3' or sources == 'geodes+s3') and sources or 'geodes'
end

-- Put a download into a ready list of its newest batch, and the batch into its account's ring.
local function make_ready(id, first, known_account, known_sources)
  local name, account = batch_of(id), known_account or field(id, 'account')
  if not is_whole(id) then return bury(id) end
  local key = ready_key(name, account, known_sources or sources_of(id))
  redis.call(first and 'LPUSH' or 'RPUSH', key, id)
  enter_ring(name, account)
end

local function has_ready(name, account)
  for _, sources in ipairs(SETS) do
    if redis.call('EXISTS', ready_key(name, account, sources)) == 1 then return true end
  end
  return false
end

local function clear_ready(name, account)
  for _, sources in ipairs(SETS) do redis.call('UNLINK', ready_key(name, account, sources)) end
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

-- End a download that an earlier run on a private server left unfinished; see abandon.lua.
-- Returns whether it was one: no living batch has it, so nothing would ever start it.
local abandoned = nil
local function end_abandoned(id)
  abandoned = abandoned or redis.call('SMEMBERS', P .. 'abandoned')
  if #abandoned == 0 or not OPEN[field(id, 'state') or ''] or #others_of(id) > 0 then return false end
  for _, name in ipairs(abandoned) do
    if redis.call('ZSCORE', P .. 'abandoned:' .. name, id) then
      -- A batch of the new run may have the name of an old one, and must not be counted down.
      members[id] = {}
      move(id, 'REVOKED')
      redis.call('HDEL', download(id), 'cancel')
      return true
    end
  end
  return false
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

-- Return what an account may start now: `why` the portal is not asked ('' when it is), `portal` and
-- `datalake` as sources that work, and for each set of sources whether its ready lists are open.
-- A pause by hand closes all of them, any other pause what needs the portal.
local function open_lists(account, time)
  local key, open = account_key(account), { why = '' }
  open.held_geodes, open.held_s3 =
    unpack(redis.call('HMGET', P .. 'holds', 'source:geodes', 'source:s3'))
  local paused = is_paused(account, time)
  local why, by_hand, probe = unpack(redis.call('HMGET', key, 'paused', 'by_hand', 'probe'))
  if paused and by_hand then return { why = 'held' } end
  if paused then open.why = why or 'held' elseif probe then open.why = 'quota' end
  local out_until, offered = unpack(redis.call('HMGET', P .. 'source:s3', 'until', 'offered'))
  local reachable = not open.held_s3 and number(out_until) <= time
  -- While it is not known whether there is quota again, one download may try (see account.lua).
  open.portal = not paused and not open.held_geodes
  open.datalake = reachable and number(offered) > time - OFFER_SECONDS
  open['geodes'] = open.portal
  open['geodes+s3'] = open.portal or open.datalake
  open['s3'] = reachable and open['geodes+s3']
  return open
end

-- Keep what needs the portal back for the rest of this call.
local function close_portal(open)
  open.portal, open['geodes'], open['geodes+s3'] = false, false, open.datalake
end

-- Whether S3 serves a download of these sources, so that the state of the portal does not matter.
local function is_over_s3(open, sources)
  return sources == 's3' or (sources == 'geodes+s3' and open.datalake and open.why ~= '')
end

local function is_held(name)
  return redis.call('HEXISTS', P .. 'holds', 'batch:' .. name) == 1
end

-- The next download of a batch from its open lists, and the sources that can serve it.
local function take(name, account, open)
  for _, sources in ipairs(SETS) do
    local id = open[sources] and redis.call('LPOP', ready_key(name, account, sources))
    if id then return id, sources end
  end
end

-- A batch had its turn: it goes to the end of its ring, after as many turns as its weight says.
local function rotate(ring, name)
  local weight = number(redis.call('HGET', batch_key(name), 'weight'), 1)
  if weight == 1 or redis.call('HINCRBY', batch_key(name), 'turns', 1) >= weight then
    if weight > 1 then redis.call('HDEL', batch_key(name), 'turns') end
    redis.call('RPOPLPUSH', ring, ring)
  end
end

-- The next ready download of an account, its batch and its sources: higher priorities first, batches
-- of one in turn. nil when there is none, or when no more batches may be looked at in this call.
local function next_ready(account, levels, holds, open, looks)
  for _, level in ipairs(levels) do
    local ring, passed = ring_key(account, level), nil
    while (looks[level] or LOOKS) > 0 do
      local name = redis.call('LINDEX', ring, -1)
      if not name or name == passed then break end
      local held = holds and is_held(name)
      local id, sources = nil, nil
      if not held then id, sources = take(name, account, open) end
      if id then
        rotate(ring, name)
        return id, name, sources
      end
      looks[level] = (looks[level] or LOOKS) - 1
      if not held and has_ready(name, account) then
        passed = passed or name
        redis.call('RPOPLPUSH', ring, ring)
      else
        redis.call('RPOP', ring)
        redis.call('HDEL', batch_key(name), 'ringed:' .. account)
      end
    end
  end
  return nil
end

-- An id that no longer waits was in a list: where nothing of its batch waits, the lists go whole.
local function drop_stale(name, account)
  local pending, retry = unpack(redis.call('HMGET', batch_key(name), 'state:PENDING', 'state:RETRY'))
  if number(pending) + number(retry) == 0 then
    clear_ready(name, account)
  end
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

-- Whether a download from a ready list may start: it still waits, and has no message yet.
local function may_start(id, sent)
  local state = field(id, 'state')
  return (state == 'PENDING' or state == 'RETRY') and not waits(id, state)
    and not redis.call('ZSCORE', sent, id)
end

-- How many messages there is room for; whether they go out in a larger stroke, nil: not now.
local function room_of(account, limits, window, on_way, probes)
  local slots = number(redis.call('GET', P .. 'slots'))
  local places = places_of(account, limits.concurrent)
  if slots > places then
    return places - redis.call('ZCARD', account_key(account, ':leases')) - on_way, false
  end
  local room = math.max(window, 2 * slots) - on_way
  -- Where messages wait in the broker: refill in larger strokes.
  local stroke = room >= window / 4
  if not limits.eager and not stroke and probes > 1 then return 0, false end
  return room, stroke
end

-- Choose the downloads to send a message for now: never more than can find a place.
-- Returns {id, spec, id, spec, ...}, and whether a next call would look at more.
local function release(account, limits, time)
  local chosen, open = {}, open_lists(account, time)
  if not open['geodes+s3'] then return chosen, false end
  local sent = account_key(account, ':sent')
  local on_way = redis.call('ZCARD', sent)
  local window, probes = window_of(account, limits), probes_left(account)
  local room, stroke = room_of(account, limits, window, on_way, probes)
  if room <= 0 then return chosen, false end
  local tries = probes - on_way
  if tries < 1 then close_portal(open) end
  local budget = quota_left(account, limits.quota_count, limits.quota_seconds, time)
  local levels, holds = levels_of(account), redis.call('EXISTS', P .. 'holds') == 1
  local put_back, looks, stale = {}, {}, LOOKS
  while room > 0 and stale > 0 do
    local id, name, sources = next_ready(account, levels, holds, open, looks)
    if not id then break end
    local quota = not is_over_s3(open, sources) and field(id, 'reason') == 'quota'
    if not may_start(id, sent) then
      stale = stale - 1
      local state = field(id, 'state') or ''
      if not (OPEN[state] or OVER[state]) then bury(id) end
      drop_stale(name, account)
    elseif quota and budget < 1 then
      put_back[#put_back + 1] = id
      if #put_back >= 16 then close_portal(open) end
    else
      if quota then budget = budget - 1 end
      if not is_over_s3(open, sources) then tries = tries - 1 end
      if tries < 1 then close_portal(open) end
      redis.call('ZADD', sent, stamp(time), id)
      chosen[#chosen + 1] = id
      chosen[#chosen + 1] = field(id, 'spec') or ''
      room = room - 1
    end
  end
  for i = #put_back, 1, -1 do make_ready(put_back[i], true) end
  if stroke and room < window / 4 then note_stroke(account, limits, window, time) end
  return chosen, stale == 0
end
