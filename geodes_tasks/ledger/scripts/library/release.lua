-- Which ready downloads get a message now.

-- Seconds for which the offer of a worker that can use S3 counts.
local OFFER_SECONDS = 120
-- Ids that one call takes from ready lists, at most: chosen ones, and ones that no longer wait.
local MOST_CHOSEN, MOST_STALE = 100, 100
-- Messages in the broker before a worker is there; and seconds after the last refill from which on the
-- window begins anew, at two messages a slot: no batch of a higher priority overtakes those there.
local FIRST_WINDOW, WINDOW_SECONDS = 64, 60

-- The limits in the settings of the caller: window, concurrent, quota count, quota seconds.
local function limits_from(first)
  local limits = {}
  for i, name in ipairs({ 'window', 'concurrent', 'quota_count', 'quota_seconds' }) do
    limits[name] = tonumber(ARGV[first + i - 1])
  end
  return limits
end

-- Record that a source gave a file: it is in reach.
local function source_works(source)
  call('HSET', P .. 'sources', 'worked:' .. source, now_text, 'until:' .. source, '', 'why:' .. source, '',
    'avoid:' .. source, '')
end

-- Return what an account may start now: `datalake`: S3 works and a worker can use it; for each set of
-- sources whether its ready lists are open; and in `why`, for the portal and each other host, why
-- nothing is requested there. A pause by hand closes all of them, any other pause the portal, an outage
-- what needs that source. A source that was out of reach for its time is `probing`: one download tries
-- whether it is back.
local function open_lists(a)
  local paused, open, all = is_paused(a), { why = {}, probing = {} }, all_sources
  if paused and a.by_hand then return { why = { geodes = 'paused' } } end
  open.geodes_paused, open.s3_paused = unpack(call('HMGET', P .. 'holds', 'source:geodes', 'source:s3'))
  local reachable = not open.s3_paused and number(all['until:s3']) <= now
  open.datalake = reachable and number(all['offered:s3']) > now - OFFER_SECONDS
  open.probing.s3 = (all['until:s3'] or '') ~= '' and reachable
  for _, host in ipairs(web_hosts) do
    local until_time = all['until:' .. host] or ''
    local is_out = number(until_time) > now
    open.probing[host] = until_time ~= '' and not is_out
    open.why[host] = until_time ~= '' and 'outage' or nil
    open[host] = not open.geodes_paused and not is_out
    if host == 'geodes' then
      -- While it is not known whether there is quota again, one download may try (see account.lua).
      open.why.geodes = paused and (a.paused or 'paused') or open.why.geodes or a.probe and 'quota'
      open.geodes = open.geodes and not paused
    elseif by_portal(host) then
      open.why[host], open[host] = open.why[host] or open.why.geodes, open[host] and open.geodes
    end
    open[host .. '+s3'] = open[host] or open.datalake
    open.any = open.any or open[host .. '+s3']
  end
  open.s3 = reachable and open['geodes+s3']
  return open
end

-- Return whether a download tries if a source is back; the next one does so after a wait.
local function begins_probe(open, source)
  if open.probing[source] then
    set(all_sources, { ['until:' .. source] = stamp(now + number(all_sources['wait:' .. source], 10)) })
  end
  return open.probing[source]
end

-- Start nothing that needs the portal for the rest of this call.
local function close_portal(open)
  for _, host in ipairs(web_hosts) do
    if by_portal(host) then open[host], open[host .. '+s3'] = false, open.datalake end
  end
end

-- Return the source or host that a download of these sources is requested from first.
local function server_of(open, sources)
  local host = web_host(sources)
  return host ~= sources and open.datalake and open.why[host] and 's3' or host
end

-- Remove the ready lists of a batch with a stale id in one, where nothing of the batch waits.
local function drop_stale(id, state, name, account)
  if not (ACTIVE[state] or ENDED[state]) then end_damaged(record(id)) end
  write_sums()
  local running = number(call('HGET', batch_key(name), 'state:STARTED'))
  if unfinished_in(name) <= running then clear_ready(name, account) end
end

-- Keep no more messages in the broker than some seconds' work, as the last refills were drained.
local function adapt_window(a, most, window)
  local took = now - number(a.refilled, now - 1)
  if took < 0.5 then window = math.min(window * 2, most) end
  if took > 2 then window = math.max(math.floor(window / 2), 1) end
  set(a, { window = window, refilled = now_text })
end

-- Return how many messages may go out, and the window of messages in the broker: nil where slots
-- outnumber downloads that may run. Higher numbers only make cancelled ones wait there.
local function free_messages(a, limits)
  local slots, limit = number(call('GET', P .. 'slots')), concurrency(a, limits.concurrent)
  local on_way = call('ZCARD', a.key .. ':sent')
  if slots > limit then return limit - call('ZCARD', a.key .. ':leases') - on_way end
  local window = slots == 0 and FIRST_WINDOW or 1
  if now - number(a.refilled) < WINDOW_SECONDS then window = math.max(number(a.window), window) end
  window = math.min(window, limits.window)
  return math.max(window, 2 * slots) - on_way, window
end

-- Return the answer of a script that ends an attempt: '1' to release downloads now. Where messages wait
-- in the broker, few large refills cost less than many small ones.
local function answer_with_room(a, limits)
  local free, window = free_messages(a, limits)
  return { 'ok', free > 0 and (not window or free >= window / 4 or a.probe) and '1' or '' }
end

-- Choose the downloads to send a message for now: never more than can start soon.
-- Returns {id, spec, id, spec, ...}, and whether a next call finds more.
local function release(account, limits)
  local chosen, a = {}, load_account(account)
  local sent = a.key .. ':sent'
  local free, window = free_messages(a, limits)
  local open = free > 0 and open_lists(a)
  if not open or not open.any then return chosen, false end
  local refill = window and free >= window / 4
  local to_portal = open.probing.geodes and 1 or probes_left(a.probe)
  -- Those for S3 on their way are no reason to wait.
  if a.probe and call('ZSCORE', sent, a.probe_sent or '') then to_portal = 0 end
  if to_portal < 1 then close_portal(open) end
  local budget = quota_left(account, limits.quota_count, limits.quota_seconds)
  local any_paused, passed = call('EXISTS', P .. 'holds') == 1, { 0 }
  local stale, left = 0, math.min(free, MOST_CHOSEN)
  while left > 0 and stale < MOST_STALE do
    local most = math.min(left, MOST_STALE - stale, math.max(to_portal, 1))
    local ids, name, sources = next_ready(account, any_paused, open, passed, most)
    if not ids then break end
    local needs_portal = by_portal(server_of(open, sources))
    for index, id in ipairs(ids) do
      local state, reason, spec = unpack(call('HMGET', download_key(id), 'state', 'reason', 'spec'))
      -- It may have ended meanwhile, or have a message already.
      local waits = state == 'PENDING' or state == 'RETRY' and not is_waiting(id, reason, account)
      local needs_quota = needs_portal and reason == 'quota'
      if waits and needs_quota and budget < 1 then
        for rest = #ids, index, -1 do call('LPUSH', ready_key(name, account, sources), ids[rest]) end
        to_portal = 0
        break
      elseif not waits or call('ZADD', sent, 'NX', now_text, id) == 0 then
        stale = stale + 1
        drop_stale(id, state, name, account)
      else
        if needs_quota then budget = budget - 1 end
        if needs_portal then to_portal = to_portal - 1 end
        if needs_portal and a.probe then set(a, { probe_sent = id }) end
        chosen[#chosen + 1], chosen[#chosen + 2] = id, spec or ''
        left, free = left - 1, free - 1
      end
    end
    if to_portal < 1 then close_portal(open) end
  end
  if refill and free < window / 4 then adapt_window(a, limits.window, window) end
  return chosen, stale == MOST_STALE or (left == 0 and free > 0)
end
