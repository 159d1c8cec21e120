-- Counters of batches and of the whole ledger, and which batches a download is in.

-- What this run of a script has read once: nothing else writes meanwhile.
local names_of, alive = {}, {}

local function batches_of(id, known)
  if not names_of[id] then
    local names = {}
    for name in string.gmatch(known or field(id, 'batches') or '', '%S+') do names[#names + 1] = name end
    names_of[id] = names
  end
  return names_of[id]
end

local function set_batches(id, names)
  names_of[id] = names
  set_fields(id, 'batches', table.concat(names, ' '))
end

-- A batch that was forgotten must not come back to life by being counted in.
local function is_alive(name)
  if alive[name] == nil then alive[name] = call('EXISTS', batch_key(name)) == 1 end
  return alive[name]
end

-- Sums of a script that counts many downloads, written once at its end; nil: written at once.
local sums = nil

local function begin_sums() sums = {} end

local function add(key, counter, amount)
  if amount == 0 then return end
  if not sums then return call('HINCRBY', key, counter, integer(amount)) end
  sums[key] = sums[key] or {}
  sums[key][counter] = (sums[key][counter] or 0) + amount
end

local function write_sums()
  local kept = sums
  sums = nil
  for key, counters in pairs(kept) do
    for counter, amount in pairs(counters) do add(key, counter, amount) end
  end
end

-- Add to one counter of the whole ledger, so that monitors need not read all records.
local function add_total(counter, amount) add(P .. 'totals', counter, amount) end

-- Add to one counter in every batch of a download.
local function count_in_batches(id, counter, amount)
  if amount == 0 then return end
  for _, name in ipairs(batches_of(id)) do
    if is_alive(name) then add(batch_key(name), counter, amount) end
  end
end

-- Add to one counter of the ledger, and in every batch of a download.
local function count(id, counter, amount)
  add_total(counter, amount)
  count_in_batches(id, counter, amount)
end

-- Record how many bytes of a download are on disk; batches keep the sum.
local function set_done(id, bytes)
  local before = number(field(id, 'done'))
  if bytes == before then return end
  set_fields(id, 'done', integer(bytes))
  count_in_batches(id, 'bytes_done', bytes - before)
end

-- Seconds that a mean speed looks back: long against the second between two renewals.
local MEAN_SECONDS = 20

-- Count the progress of an attempt: bytes more on disk, and bytes that came over the network. A batch
-- keeps its mean speed as `bytes a second, since when, until when`: an exponential mean needs no list.
local function count_progress(batches, grown, came, source, collection, time)
  if came > 0 then call('HINCRBY', P .. 'totals', 'bytes:' .. source .. ':' .. collection, came) end
  for name in string.gmatch(batches or '', '%S+') do
    local key = P .. 'batch:' .. name
    local created, done, speed = unpack(call('HMGET', key, 'created', 'bytes_done', 'speed'))
    if created then
      local rate, since, at = string.match(speed or '', '^(%S+) (%S+) (%S+)$')
      local silence = time - number(at)
      if silence > 3 * MEAN_SECONDS or rate == '0' then rate, since, silence = 0, time - 1, 0 end
      rate = number(rate) * math.exp(-math.max(silence, 0) / MEAN_SECONDS) + came / MEAN_SECONDS
      call('HSET', key, 'bytes_done', string.format('%.0f', number(done) + grown),
        'speed', string.format('%.0f %.3f %.3f', rate, since, time))
    end
  end
end

-- Return what batches count of a download.
local function counted_fields(id)
  local state, batches, size, done, reason, outcome =
    fields(id, 'state', 'batches', 'size', 'done', 'reason', 'outcome')
  batches_of(id, batches or '')
  return { state = state, size = size, done = done, reason = reason, outcome = outcome }
end

-- Add a download to the counters of one batch, or take it out of them (sign -1).
local function count_in_batch(key, counted, sign)
  add(key, 'bytes_total', sign * number(counted.size))
  add(key, 'bytes_done', sign * number(counted.done))
  if counted.state then add(key, 'state:' .. counted.state, sign) end
  if counted.state == 'RETRY' then add(key, 'waiting:' .. (counted.reason or ''), sign) end
  if counted.state == 'SUCCESS' then add(key, 'outcome:' .. (counted.outcome or ''), sign) end
end

-- The downloads of a batch with an error, listed by it: readers find them without reading the batch.
local function errors_key(name) return P .. 'errors:' .. name end

local function has_error(state) return state == 'FAILURE' or state == 'RETRY' end

local function error_entry(id, state, text)
  local info = decoded(text)
  return state .. ':' .. tostring(info and info.type or '') .. ':' .. id
end

-- Record why a download failed or waits.
local function set_error(id, state, text)
  set_fields(id, 'error', text)
  for _, name in ipairs(batches_of(id)) do
    if is_alive(name) then call('ZADD', errors_key(name), 0, error_entry(id, state, text)) end
  end
end

local totals_of = {}

-- Append a download to the list of a batch.
local function append_to_batch(id, name)
  local key = batch_key(name)
  totals_of[name] = (totals_of[name] or number(call('HGET', key, 'total'))) + 1
  call('ZADD', key .. ':downloads', totals_of[name], id)
  add(key, 'total', 1)
end

local function is_in_batch(id, name) return call('ZSCORE', batch_key(name) .. ':downloads', id) end

-- Take a download out of a batch; return whether it was in it.
local function detach(id, name, counted)
  local key = batch_key(name)
  if call('ZREM', key .. ':downloads', id) == 0 then return false end
  add(key, 'total', -1)
  counted = counted or counted_fields(id)
  count_in_batch(key, counted, -1)
  if has_error(counted.state) then
    call('ZREM', errors_key(name), error_entry(id, counted.state, field(id, 'error')))
  end
  return true
end

-- Batches of earlier runs on a private server: see begin_run.lua. A shared ledger has none.
local private = nil

local function is_private()
  if private == nil then private = call('EXISTS', P .. 'run') == 1 end
  return private
end

local function is_earlier(name) return is_private() and call('SISMEMBER', P .. 'earlier', name) == 1 end

-- Count a download in one more batch, once. Forgotten batches drop out of its list on the way, and
-- batches of earlier runs: a download is in the last one only, however often it is enqueued.
local function attach(id, name, counted)
  local kept = {}
  for _, other in ipairs(batches_of(id)) do
    -- A batch of this name may have been forgotten, and this be another one.
    local is_member = is_alive(other) and is_in_batch(id, other)
    if other == name and is_member then return end
    if is_member and is_earlier(other) then
      detach(id, other, counted)
      if call('EXISTS', batch_key(other) .. ':downloads') == 0 then
        drop_batch(other)
        alive[other] = false
        if sums then sums[batch_key(other)] = nil end
      end
    elseif is_member then
      kept[#kept + 1] = other
    end
  end
  if #batches_of(id) == 0 then call('ZREM', P .. 'kept', id) end
  kept[#kept + 1] = name
  set_batches(id, kept)
  append_to_batch(id, name)
  count_in_batch(batch_key(name), counted, 1)
  if has_error(counted.state) then
    call('ZADD', errors_key(name), 0, error_entry(id, counted.state, field(id, 'error')))
  end
end

-- Return the living batches that a download is in, apart from one.
local function other_batches_of(id, batch)
  local found = {}
  for _, name in ipairs(batches_of(id)) do
    if name ~= batch and is_in_batch(id, name) then found[#found + 1] = name end
  end
  return found
end

local function open_batch(name, account)
  local time = stamp(now())
  -- A batch of an earlier run has this name: this is another one.
  if call('SREM', P .. 'earlier', name) == 1 then drop_batch(name) end
  if call('GET', P .. 'run') == 'off' then call('SADD', P .. 'wanted', name) end
  call('SADD', P .. 'accounts', account)
  call('ZADD', P .. 'batches', 'NX', time, name)
  call('HSETNX', batch_key(name), 'account', account)
  call('HSETNX', batch_key(name), 'created', time)
  alive[name] = true
end
