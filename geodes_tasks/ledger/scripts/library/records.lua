-- Records of downloads, and the counters of batches and of the whole ledger.

-- Return the names of batches in a list of them. It is split at blanks, so that a blank in a name is a
-- line end in the list: no name has a line end.
local function names_in(list)
  -- One name: nearly always.
  if string.find(list or '', '^[^ \n]+$') then return { list } end
  local names = {}
  for name in string.gmatch(list or '', '[^ ]+') do names[#names + 1] = name:gsub('\n', ' ') end
  return names
end

local function is_in_batch(d, name) return call('ZSCORE', batch_key(name) .. ':downloads', d.id) end

-- Return the record of a download: its fields, with its `id` and the `names` of the batches that have it.
-- Forgotten ones stay in its own list, and another batch may have the name of one.
local function record(id)
  local d = load_hash(download_key(id))
  d.id, d.names = id, {}
  for _, name in ipairs(names_in(d.batches)) do
    if is_in_batch(d, name) then d.names[#d.names + 1] = name end
  end
  return d
end

-- What this run of a script adds to counters, by batch: written once, at its end (write_sums).
local sums = {}
-- In place of a batch: the whole ledger.
local LEDGER = ''

local function add(batch, counter, amount)
  -- What waits for its turn is the rest of the total.
  if counter == 'state:PENDING' then return end
  local counters = sums[batch] or {}
  counters[counter], sums[batch] = (counters[counter] or 0) + amount, counters
end

-- Return the one counter in which a download counts in a batch, or in the whole ledger: its state, the
-- reason of its wait or its outcome. A later batch that found the file there has an outcome of its own.
local function counter_of(d, batch)
  if d.state == 'RETRY' then return 'waiting:' .. (d.reason or '') end
  if d.state == 'SUCCESS' and d['present:' .. batch] then return 'outcome:ALREADY_PRESENT' end
  if d.state == 'SUCCESS' then return 'outcome:' .. (d.outcome or '') end
  return 'state:' .. d.state
end

-- Add to one counter in every batch of a download.
local function count_in_batches(d, counter, amount)
  for _, name in ipairs(d.names) do add(name, counter, amount) end
end

-- Return the bytes that a download which ended without its file will not fetch.
local function bytes_given_up(d)
  if d.state ~= 'FAILURE' and d.state ~= 'REVOKED' then return 0 end
  return number(d.size) - number(d.done)
end

-- Count a download in its state or, with sign -1, no more. For the whole ledger only those that have
-- ended: the others are in `leases` or in a set `since`, and the size of a set costs nothing.
local function count_state(d, sign)
  if ENDED[d.state] then add(LEDGER, counter_of(d, LEDGER), sign) end
  for _, name in ipairs(d.names) do add(name, counter_of(d, name), sign) end
  count_in_batches(d, 'bytes_ended', sign * bytes_given_up(d))
end

-- Record how many bytes of a download are on disk; batches keep the sum.
local function set_done(d, bytes)
  local given_up = bytes_given_up(d)
  count_in_batches(d, 'bytes_done', bytes - number(d.done))
  set(d, { done = bytes })
  count_in_batches(d, 'bytes_ended', bytes_given_up(d) - given_up)
end

-- Seconds that a mean speed looks back: long against the second between two renewals.
local MEAN_SECONDS = 20

-- Return a mean speed, `bytes a second, since when, until when`, with more bytes: an exponential mean
-- needs no list.
local function next_speed(speed, came)
  local rate, since, at = string.match(speed or '', '^(%S+) ([%d.]+) (%S+)$')
  local silence = now - number(at)
  if silence > 3 * MEAN_SECONDS or rate == '0' then rate, since, silence = 0, stamp(now - 1), 0 end
  rate = number(rate) * math.exp(-math.max(silence, 0) / MEAN_SECONDS) + came / MEAN_SECONDS
  return string.format('%.0f %s %s', rate, since, now_text)
end

-- Count the progress of an attempt: bytes more on disk, and bytes that came over the network.
local function count_progress(names, grown, came, source, collection)
  if came > 0 then add(LEDGER, 'bytes:' .. source .. ':' .. collection, came) end
  for _, name in ipairs(names) do
    add(name, 'bytes_done', grown)
    add(name, 'speed', came)
  end
end

-- Write what was added. A batch that was forgotten stays so.
local function write_sums()
  for name, counters in pairs(sums) do
    local key = name == LEDGER and P .. 'totals' or batch_key(name)
    local came, is_there, speed = counters.speed, true, nil
    counters.speed = nil
    if name ~= LEDGER then is_there, speed = unpack(call('HMGET', key, 'created', 'speed')) end
    if is_there then
      for counter, amount in pairs(counters) do
        -- Redis formats a number at length; most are 1 or -1.
        local text = amount == 1 and '1' or amount == -1 and '-1' or amount
        if amount ~= 0 then call('HINCRBY', key, counter, text) end
      end
      if came then call('HSET', key, 'speed', next_speed(speed, came)) end
    end
  end
  sums = {}
end
