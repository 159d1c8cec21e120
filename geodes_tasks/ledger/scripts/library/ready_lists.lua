-- The ready lists of the batches, and the ring of an account that serves its batches in turn.

-- Hosts that have ready lists of their own, at most; those of further ones are served as the portal's.
local MOST_HOSTS = 20
-- Batches without an open list that one call passes, at most.
local MOST_PASSED = 100
-- Turns in the range of one priority: more than a ledger has downloads.
local TURNS = 1e9

-- Return where the https address of a download of these sources leads: `geodes`, or another host.
local function web_host(sources)
  return string.sub(sources, -3) == '+s3' and string.sub(sources, 1, -4) or sources
end

-- Return whether requests to this host go to the portal: `geodes`, or `geodes->host` for downloads
-- that the portal redirects to that host.
local function by_portal(host) return host == 'geodes' or string.sub(host, 1, 8) == 'geodes->' end

-- What is known of the sources (see source_works), as this run of a script found it.
local all_sources = load_hash(P .. 'sources')

-- The portal and the other hosts that serve downloads.
local web_hosts = { 'geodes' }
for host in string.gmatch(all_sources.hosts or '', '[^\n]+') do web_hosts[#web_hosts + 1] = host end

-- The sets of sources that can serve a download; each has a ready list.
local function source_sets()
  local sets = {}
  for _, host in ipairs(web_hosts) do
    sets[#sets + 1], sets[#sets + 2] = host, host .. '+s3'
  end
  sets[#sets + 1] = 's3'
  return sets
end

-- Return the sources of a download as its ready list is named. A host that is met for the first time
-- gets its lists.
local function known_sources(sources)
  local host = web_host(sources or '')
  local known = '\ngeodes\n' .. (all_sources.hosts or '')
  if sources == 's3' or string.find(known, '\n' .. host .. '\n', 1, true) then return sources end
  if host == '' or #web_hosts > MOST_HOSTS then return 'geodes' end
  web_hosts[#web_hosts + 1] = host
  set(all_sources, { hosts = table.concat(web_hosts, '\n', 2) .. '\n' })
  return sources
end

-- Return where the https address of a download leads: `geodes`, or the name of another host.
local function host_of(d)
  local host = web_host(d.sources or 'geodes')
  return host == 's3' and 'geodes' or host
end

local function ready_keys(name, account)
  local keys = {}
  for i, sources in ipairs(source_sets()) do keys[i] = ready_key(name, account, sources) end
  return keys
end

local function has_ready(name, account) return call('EXISTS', unpack(ready_keys(name, account))) > 0 end
local function clear_ready(name, account) call('UNLINK', unpack(ready_keys(name, account))) end

-- Put a batch with ready work into the ring of an account, once; its first turn comes next. A score is a
-- number of turns: each priority has a range of its own, and a turn of a batch of weight 3 counts a third.
local function enter_ring(name, account)
  local ring = account_key(account, ':ring')
  if call('ZSCORE', ring, name) then return end
  call('SADD', P .. 'accounts', account)
  local first = -TURNS * number(call('HGET', batch_key(name), 'priority'))
  local range = { ring, first, '(' .. first + TURNS, 'WITHSCORES', 'LIMIT', 0, 1 }
  call('ZADD', ring, call('ZRANGEBYSCORE', unpack(range))[2] or first, name)
end

-- Put a download into the ready list of a batch: at the head when it is `first`.
local function enqueue_in(d, name, first)
  local key = ready_key(name, d.account, known_sources(d.sources))
  -- Nothing leaves the list of a paused batch: each try for another one would add the id once more.
  if first and call('HEXISTS', P .. 'holds', 'batch:' .. name) == 1
    and call('LPOS', key, d.id, 'MAXLEN', 1000) then return end
  call(first and 'LPUSH' or 'RPUSH', key, d.id)
  enter_ring(name, d.account)
end

-- The same for each batch of a download, as any of them may be paused. Sent for one of them, it is
-- stale in the lists of the others. What no batch has any more is cancelled.
local function enqueue(d, first)
  if #d.names == 0 then return revoke(d) end
  for _, name in ipairs(d.names) do enqueue_in(d, name, first) end
  -- The newest; others that are over stay so: their hooks were called.
  call('SADD', P .. 'open', d.names[#d.names])
end

-- The same for a record that may be damaged, or of an earlier run: such a one ends.
local function make_ready(d, first)
  if not is_whole(d) then return end_damaged(d) end
  if not end_left_over(d) then enqueue(d, first) end
end

-- Whether a download in state RETRY waits for a time, or for its file to come back from tape.
local function is_waiting(id, reason, account)
  local due = call('ZSCORE', P .. 'due', id)
  if due then return number(due) > now end
  return reason == 'offline' and call('ZSCORE', account_key(account, ':tape'), id)
end

-- Return whether a download can get a message now.
local function is_ready(d)
  return is_queued(d) and not call('ZSCORE', account_key(d.account, ':sent'), d.id)
    and not is_waiting(d.id, d.reason, d.account)
end

-- Serve a download that has left a batch for the others alone from now on.
local function hand_over(d)
  set_batches(d, d.names)
  if is_ready(d) then make_ready(d) end
end

-- Take a batch out of the ledger; its downloads are removed block by block (remove_forgotten.lua).
local function drop_batch(name)
  local key, rest = batch_key(name), name .. ':' .. now_text
  if call('EXISTS', key .. ':downloads') == 1 then
    call('RENAME', key .. ':downloads', P .. 'forgotten:' .. rest)
    call('SADD', P .. 'forgotten', rest)
  end
  for _, account in ipairs(all_accounts()) do
    clear_ready(name, account)
    call('ZREM', account_key(account, ':ring'), name)
  end
  call('UNLINK', key, P .. 'errors:' .. name)
  call('ZREM', P .. 'batches', name)
  call('SREM', P .. 'earlier', name)
  call('SREM', P .. 'open', name)
  call('HDEL', P .. 'left_over', name)
  call('HDEL', P .. 'holds', 'batch:' .. name)
end

-- Take the next downloads of a batch, at most `most`, from one of its open lists; return them and their
-- sources.
local function pop_ready(name, account, open, most)
  for _, sources in ipairs(source_sets()) do
    local ids = open[sources] and call('LPOP', ready_key(name, account, sources), most)
    if ids then return ids, sources end
  end
end

-- Take the next ready downloads of an account, at most `most`: of the first batch in its ring, as many as
-- it has turns before the second one. Return them, their batch and their sources; nil when there is none.
-- `passed` counts the batches that have no open list.
local function next_ready(account, any_paused, open, passed, most)
  local ring = account_key(account, ':ring')
  while passed[1] < MOST_PASSED do
    local name, turn, other, next_turn =
      unpack(call('ZRANGE', ring, passed[1], passed[1] + 1, 'WITHSCORES'))
    if not name then return nil end
    local paused = any_paused and call('HEXISTS', P .. 'holds', 'batch:' .. name) == 1
    local weight = number(call('HGET', batch_key(name), 'weight'), 1)
    local turns = other and math.ceil((number(next_turn) - number(turn)) * weight) or most
    local ids, sources
    if not paused then ids, sources = pop_ready(name, account, open, math.max(math.min(turns, most), 1)) end
    if ids then
      call('ZINCRBY', ring, #ids / weight, name)
      return ids, name, sources
    elseif paused or not has_ready(name, account) then
      call('ZREM', ring, name)
    else
      passed[1] = passed[1] + 1
    end
  end
  -- The next call begins with batches behind these.
  for _, name in ipairs(call('ZRANGE', ring, 0, MOST_PASSED - 1)) do call('ZINCRBY', ring, 1, name) end
end
