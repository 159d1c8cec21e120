-- The ready lists of the batches, and the ring of an account that serves its batches in turn.

-- Hosts that have ready lists of their own, at most; those of further ones are served as the portal's.
local MOST_HOSTS = 20
-- Batches without an open list that one call tries, for each priority.
local MOST_TRIES = 100

-- The batch that a download is served for: the newest.
local function served_batch(d) return d.names[#d.names] end

-- Return where the https address of a download of these sources leads: `geodes`, or another host.
local function web_host(sources) return string.match(sources, '^(.*)%+s3$') or sources end

-- Return whether requests to this host go to the portal: `geodes`, or `geodes->host` for downloads
-- that the portal redirects to that host.
local function by_portal(host) return host == 'geodes' or string.sub(host, 1, 8) == 'geodes->' end

-- The portal and the other hosts that serve downloads.
local hosts = nil

local function web_hosts()
  hosts = hosts or { 'geodes', unpack(call('SMEMBERS', P .. 'hosts')) }
  return hosts
end

-- The sets of sources that can serve a download; each has a ready list.
local function source_sets()
  local sets = {}
  for _, host in ipairs(web_hosts()) do
    sets[#sets + 1], sets[#sets + 2] = host, host .. '+s3'
  end
  sets[#sets + 1] = 's3'
  return sets
end

local function known_sources(sources)
  for _, set_of in ipairs(source_sets()) do
    if set_of == sources then return sources end
  end
  return 'geodes'
end

-- Return the sources of a record; a host that is met for the first time gets its ready lists.
local function registered_sources(sources)
  if sources and known_sources(sources) ~= sources and #web_hosts() <= MOST_HOSTS then
    call('SADD', P .. 'hosts', web_host(sources))
    hosts = nil
  end
  return known_sources(sources)
end

-- Return where the https address of a download leads: `geodes`, or the name of another host.
local function host_of(d)
  local host = web_host(known_sources(d.sources))
  return host == 's3' and 'geodes' or host
end

local function ready_keys(name, account)
  local keys = {}
  for i, sources in ipairs(source_sets()) do keys[i] = ready_key(name, account, sources) end
  return keys
end

local function has_ready(name, account) return call('EXISTS', unpack(ready_keys(name, account))) > 0 end
local function clear_ready(name, account) call('UNLINK', unpack(ready_keys(name, account))) end

-- Put a batch with ready work into its ring, once.
local function enter_ring(name, account)
  local key = batch_key(name)
  if call('HSETNX', key, 'ringed:' .. account, '1') == 0 then return end
  call('SADD', P .. 'accounts', account)
  call('SADD', P .. 'open', name)
  local level = number(call('HGET', key, 'priority'))
  if level ~= 0 then call('SADD', account_key(account, ':levels'), level) end
  call('LPUSH', ring_key(account, level), name)
end

-- Put a batch into its ring anew, out of the one of its former priority.
local function rejoin_ring(name, account, former_level)
  call('LREM', ring_key(account, former_level), 0, name)
  call('HDEL', batch_key(name), 'ringed:' .. account)
  if has_ready(name, account) then enter_ring(name, account) end
end

-- Put a download into a ready list of its newest batch: at the head when it is `first`.
local function make_ready(d, first)
  if not is_whole(d) then return end_damaged(d) end
  if end_left_over(d) then return end
  local key = ready_key(served_batch(d), d.account, known_sources(d.sources))
  call(first and 'LPUSH' or 'RPUSH', key, d.id)
  enter_ring(served_batch(d), d.account)
end

-- Whether a download in state RETRY waits for a time, or for its file to come back from tape.
local function is_waiting(id, reason, account)
  local due = call('ZSCORE', P .. 'due', id)
  if due then return number(due) > now end
  return reason == 'offline' and call('ZSCORE', account_key(account, ':tape'), id)
end

-- Serve a download for these batches alone from now on.
local function hand_over(d, others)
  set_batches(d, others)
  local sent = call('ZSCORE', account_key(d.account, ':sent'), d.id)
  if is_queued(d) and not sent and not is_waiting(d.id, d.reason, d.account) then make_ready(d) end
end

-- Return the priorities of an account's batches with ready work, the highest first.
local function levels_of(account)
  local levels = { 0 }
  for _, level in ipairs(call('SMEMBERS', account_key(account, ':levels'))) do
    levels[#levels + 1] = number(level)
  end
  table.sort(levels, function(a, b) return a > b end)
  return levels
end

-- Take a batch out of the ledger; its downloads are removed block by block (remove_forgotten.lua).
local function drop_batch(name)
  local key, rest = batch_key(name), name .. ':' .. stamp(now)
  if number(call('HGET', key, 'total')) > 0 then note_end(name) end
  if call('EXISTS', key .. ':downloads') == 1 then
    call('RENAME', key .. ':downloads', P .. 'forgotten:' .. rest)
    call('SADD', P .. 'forgotten', rest)
  end
  for _, account in ipairs(all_accounts()) do
    clear_ready(name, account)
    for _, level in ipairs(levels_of(account)) do call('LREM', ring_key(account, level), 0, name) end
  end
  call('UNLINK', key, errors_key(name))
  call('ZREM', P .. 'batches', name)
  call('SREM', P .. 'earlier', name)
  call('SREM', P .. 'open', name)
  call('HDEL', P .. 'left_over', name)
  call('HDEL', P .. 'holds', 'batch:' .. name)
end

-- Take the next download of a batch from its open lists; return it and its sources.
local function pop_ready(name, account, open)
  for _, sources in ipairs(source_sets()) do
    local id = open[sources] and call('LPOP', ready_key(name, account, sources))
    if id then return id, sources end
  end
end

-- Move a batch to the end of its ring, after as many turns as its weight.
local function rotate(ring, name)
  local weight = number(call('HGET', batch_key(name), 'weight'), 1)
  if weight == 1 or call('HINCRBY', batch_key(name), 'turns', 1) >= weight then
    if weight > 1 then call('HDEL', batch_key(name), 'turns') end
    call('RPOPLPUSH', ring, ring)
  end
end

-- Return the next ready download of an account, its batch and its sources: higher priorities first,
-- batches of one in turn. nil when there is none, or when `tries` allows no more batches.
local function next_ready(account, levels, any_paused, open, tries)
  for _, level in ipairs(levels) do
    local ring, passed = ring_key(account, level), nil
    while (tries[level] or MOST_TRIES) > 0 do
      local name = call('LINDEX', ring, -1)
      if not name or name == passed then break end
      local paused = any_paused and call('HEXISTS', P .. 'holds', 'batch:' .. name) == 1
      local id, sources
      if not paused then id, sources = pop_ready(name, account, open) end
      if id then
        rotate(ring, name)
        return id, name, sources
      end
      tries[level] = (tries[level] or MOST_TRIES) - 1
      if not paused and has_ready(name, account) then
        passed = passed or name
        call('RPOPLPUSH', ring, ring)
      else
        call('RPOP', ring)
        call('HDEL', batch_key(name), 'ringed:' .. account)
      end
    end
  end
end
