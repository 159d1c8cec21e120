-- Records of downloads, and the counters of batches and of the whole ledger.

-- Return the record of a download: its fields, with its `id` and the `names` of its batches.
local function record(id)
  local d = load_hash(download_key(id))
  d.id, d.names = id, {}
  for name in string.gmatch(d.batches or '', '%S+') do d.names[#d.names + 1] = name end
  return d
end

-- What this run of a script adds to counters, by key: written once, at its end (write_sums).
local sums = {}

local function add(key, counter, amount)
  local counters = sums[key] or {}
  counters[counter], sums[key] = (counters[counter] or 0) + amount, counters
end

-- Return the one counter in which a download counts: its state, the reason of its wait or its outcome.
local function counter_of(d)
  if d.state == 'RETRY' then return 'waiting:' .. (d.reason or '') end
  if d.state == 'SUCCESS' then return 'outcome:' .. (d.outcome or '') end
  return 'state:' .. d.state
end

-- Add to one counter in every batch of a download.
local function count_in_batches(d, counter, amount)
  for _, name in ipairs(d.names) do add(batch_key(name), counter, amount) end
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

-- Return a mean speed, `bytes a second, since when, until when`, with more bytes: an exponential mean
-- needs no list.
local function next_speed(speed, came)
  local rate, since, at = string.match(speed or '', '^(%S+) (%S+) (%S+)$')
  local silence = now - number(at)
  if silence > 3 * MEAN_SECONDS or rate == '0' then rate, since, silence = 0, now - 1, 0 end
  rate = number(rate) * math.exp(-math.max(silence, 0) / MEAN_SECONDS) + came / MEAN_SECONDS
  return string.format('%.0f %.3f %.3f', rate, number(since), now)
end

-- Count the progress of an attempt: bytes more on disk, and bytes that came over the network.
local function count_progress(batches, grown, came, source, collection)
  if came > 0 then add(P .. 'totals', 'bytes:' .. source .. ':' .. collection, came) end
  for name in string.gmatch(batches, '%S+') do
    add(batch_key(name), 'bytes_done', grown)
    add(batch_key(name), 'speed', came)
  end
end

-- A number among the arguments costs Redis as much as half a command: it is printed with 17 digits.
local TEXTS = { [1] = '1', [-1] = '-1' }

-- Write what was added. A batch that was forgotten stays so.
local function write_sums()
  for key, counters in pairs(sums) do
    local came, is_there, speed = counters.speed, true, nil
    counters.speed = nil
    if key ~= P .. 'totals' then is_there, speed = unpack(call('HMGET', key, 'created', 'speed')) end
    if is_there then
      for name, amount in pairs(counters) do
        if amount ~= 0 then call('HINCRBY', key, name, TEXTS[amount] or amount) end
      end
      if came then call('HSET', key, 'speed', next_speed(speed, came)) end
    end
  end
  sums = {}
end
