-- Records of downloads, and the counters of batches and of the whole ledger.

-- Return the record of a download: its fields, with its `id` and the `names` of its batches.
local function record(id)
  local d, values = {}, call('HGETALL', download_key(id))
  for i = 1, #values, 2 do d[values[i]] = values[i + 1] end
  d.id, d.names = id, {}
  for name in string.gmatch(d.batches or '', '%S+') do d.names[#d.names + 1] = name end
  return d
end

-- Set fields of a record.
local function set(d, values)
  local list = {}
  for name, value in pairs(values) do
    d[name], list[#list + 1], list[#list + 2] = value, name, value
  end
  call('HSET', download_key(d.id), unpack(list))
end

-- Remove fields of a record.
local function clear(d, ...)
  for _, name in ipairs({ ... }) do d[name] = nil end
  call('HDEL', download_key(d.id), ...)
end

-- A number costs Redis half as much again as its text.
local TEXTS = { [1] = '1', [-1] = '-1' }

-- Sums of a script that counts many downloads, written once at its end; nil: written at once.
local sums = nil

local function begin_sums() sums = {} end

local function add(key, counter, amount)
  if amount == 0 then return end
  if not sums then return call('HINCRBY', key, counter, TEXTS[amount] or amount) end
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

-- What this run of a script has read once: nothing else writes meanwhile.
local alive = {}

-- A batch that was forgotten must not come back to life by being counted in.
local function is_alive(name)
  if alive[name] == nil then alive[name] = call('EXISTS', batch_key(name)) == 1 end
  return alive[name]
end

-- Add to one counter in every batch of a download.
local function count_in_batches(d, counter, amount)
  for _, name in ipairs(d.names) do
    if is_alive(name) then add(batch_key(name), counter, amount) end
  end
end

-- Add to one counter of the ledger, so that monitors read no records, and of every batch.
local function count(d, counter, amount)
  add(P .. 'totals', counter, amount)
  count_in_batches(d, counter, amount)
end

-- Record how many bytes of a download are on disk; batches keep the sum.
local function set_done(d, bytes)
  count_in_batches(d, 'bytes_done', bytes - number(d.done))
  set(d, { done = bytes })
end

-- Seconds that a mean speed looks back: long against the second between two renewals.
local MEAN_SECONDS = 20

-- Count the progress of an attempt: bytes more on disk, and bytes that came over the network. A batch
-- keeps its mean speed as `bytes a second, since when, until when`: an exponential mean needs no list.
local function count_progress(batches, grown, came, source, collection)
  if came > 0 then add(P .. 'totals', 'bytes:' .. source .. ':' .. collection, came) end
  for name in string.gmatch(batches, '%S+') do
    local key = batch_key(name)
    local created, done, speed = unpack(call('HMGET', key, 'created', 'bytes_done', 'speed'))
    if created then
      local rate, since, at = string.match(speed or '', '^(%S+) (%S+) (%S+)$')
      local silence = now - number(at)
      if silence > 3 * MEAN_SECONDS or rate == '0' then rate, since, silence = 0, now - 1, 0 end
      rate = number(rate) * math.exp(-math.max(silence, 0) / MEAN_SECONDS) + came / MEAN_SECONDS
      call('HSET', key, 'bytes_done', number(done) + grown,
        'speed', string.format('%.0f %.3f %.3f', rate, since, now))
    end
  end
end
