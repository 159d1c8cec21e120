-- Batches: which downloads are in them, and lists of those that failed.

-- Add a download to the counters of one batch, or take it out of them (sign -1).
local function count_in_batch(d, name, sign)
  add(name, 'bytes_total', sign * number(d.size))
  add(name, 'bytes_done', sign * number(d.done))
  add(name, 'bytes_ended', sign * bytes_given_up(d))
  if d.state then add(name, counter_of(d, name), sign) end
end

-- Return how a batch lists a download for its error, so that readers find it without reading the batch;
-- nil for one that has none.
local function error_entry(d)
  if not d.error or (d.state ~= 'FAILURE' and d.state ~= 'RETRY') then return nil end
  local info = decoded(d.error)
  return d.state .. ':' .. tostring(info and info.type or '') .. ':' .. d.id
end

local function list_error(d, name)
  local entry = error_entry(d)
  if entry then call('ZADD', P .. 'errors:' .. name, 0, entry) end
end

local function set_batches(d, names)
  local listed, is_left = {}, {}
  for at, name in ipairs(names) do listed[at], is_left[name] = name:gsub(' ', '\n'), true end
  for _, name in ipairs(names_in(d.batches)) do
    if not is_left[name] then clear(d, 'present:' .. name) end
  end
  d.names = names
  set(d, { batches = table.concat(listed, ' ') })
end

-- Take a download out of a batch; return whether it was in it.
local function detach(d, name)
  if call('ZREM', batch_key(name) .. ':downloads', d.id) == 0 then return false end
  add(name, 'total', -1)
  count_in_batch(d, name, -1)
  call('ZREM', P .. 'errors:' .. name, error_entry(d) or '')
  return true
end

-- Batches of earlier runs on a private server: see ledger/control. A shared ledger has none.
local is_private = call('EXISTS', P .. 'run') == 1

local function is_earlier(name) return is_private and call('SISMEMBER', P .. 'earlier', name) == 1 end

-- Count a download in one more batch, once. Forgotten batches drop out of its list on the way, and
-- batches of earlier runs, which go with their last download: a download is in the last one only,
-- however often it is enqueued. Return whether it was not in this one.
local function attach(d, name)
  if is_in_batch(d, name) then return false end
  if d.batches == '' then call('ZREM', P .. 'kept', d.id) end
  local names, key = {}, batch_key(name)
  for _, other in ipairs(d.names) do
    local goes = is_earlier(other)
    -- Cancelled and not ended yet: it leaves its batch, as it would if the new one had come first.
    if goes or d.cancel and d.state == 'STARTED' then
      detach(d, other)
      if goes and call('EXISTS', batch_key(other) .. ':downloads') == 0 then drop_batch(other) end
    else
      names[#names + 1] = other
    end
  end
  names[#names + 1] = name
  set_batches(d, names)
  call('ZADD', key .. ':downloads', call('HINCRBY', key, 'total', 1), d.id)
  count_in_batch(d, name, 1)
  list_error(d, name)
  return true
end

-- Return whether a download is in batches, and all of them are paused.
local function are_batches_paused(d)
  for _, name in ipairs(d.names) do
    if call('HEXISTS', P .. 'holds', 'batch:' .. name) == 0 then return false end
  end
  return #d.names > 0
end

local function open_batch(name, account)
  -- A batch of an earlier run has this name: this is another one.
  if call('SREM', P .. 'earlier', name) == 1 then drop_batch(name) end
  if call('GET', P .. 'run') == 'off' then call('SADD', P .. 'wanted', name) end
  call('SADD', P .. 'open', name)
  -- Not over before its last block is in; a client that dies in between delays its end.
  call('HSET', batch_key(name), 'admitting', stamp(now + 60))
  call('SADD', P .. 'accounts', account)
  call('ZADD', P .. 'batches', 'NX', now_text, name)
  call('HSETNX', batch_key(name), 'account', account)
  call('HSETNX', batch_key(name), 'created', now_text)
end
