-- How a download gets into the ledger.

-- The version at the end of a GEODES URN does not make another item.
local function owner_name(spec) return string.gsub(spec.item, ':V%d+$', '') .. ' ' .. spec.key end

-- Return the item that owns the path already; nil when the path is free for this entry.
local function path_owner(entry)
  local other = call('HGET', P .. 'paths', entry.path or field(entry.id, 'path'))
  if not other or other == entry.id then return nil end
  end_left_over(other)
  local state, text = fields(other, 'state', 'spec')
  if not state or state == 'FAILURE' or state == 'REVOKED' then return nil end
  local spec = decoded(text)
  if not spec or not spec.item or not spec.key then return nil end
  local same = owner_name(spec) == owner_name(cjson.decode(entry.spec or field(entry.id, 'spec')))
  if state == 'SUCCESS' and same then return nil end
  return spec.item .. (same and ' (other bytes, still under way)' or '')
end

local function create_record(entry, batch, account)
  local id = entry.id
  check_move(id, nil, 'PENDING')
  entry.sources = sources_of_new(entry.sources)
  set_fields(id, 'state', 'PENDING', 'spec', entry.spec, 'path', entry.path, 'size', entry.size,
    'sources', entry.sources, 'account', account, 'attempts', 0, 'batches', batch)
  names_of[id] = { batch }
  append_to_batch(id, batch)
  count(id, 'state:PENDING', 1)
  count_in_batches(id, 'bytes_total', number(entry.size))
  call('HSET', P .. 'paths', entry.path, id)
  call('ZADD', since_key('PENDING'), stamp(now()), id)
  call('RPUSH', ready_key(batch, account, entry.sources), id)
  enter_ring(batch, account)
end

-- Begin a record anew that had ended.
local function restart_record(entry, account)
  local id = entry.id
  -- The catalogue's size once more: after a download the real one stands there.
  count_in_batches(id, 'bytes_total', number(entry.size) - number(field(id, 'size')))
  set_fields(id, 'spec', entry.spec, 'path', entry.path, 'size', entry.size,
    'sources', sources_of_new(entry.sources), 'account', account, 'attempts', 0)
  move(id, 'PENDING')
  call('HDEL', download_key(id), 'error', 'finished', 'started', 'source', 'bytes', 'bytes:s3',
    'bytes:geodes', 'suspect', 'cancel', 'history', 'verified', 'gone', 'offline_since')
  call('HSET', P .. 'paths', entry.path, id)
  set_done(id, 0)
  make_ready(id)
end

-- Record that a file proven before is still there.
local function mark_present(id, outcome)
  -- Counted so already, where it was enqueued before: nothing moves.
  if outcome ~= 'ALREADY_PRESENT' then move(id, 'SUCCESS', nil, 'ALREADY_PRESENT') end
  set_fields(id, 'finished', stamp(now()), 'bytes', 0)
  call('HDEL', download_key(id), 'source', 'bytes:s3', 'bytes:geodes')
end

-- Admit one entry; return its answer (see admit_downloads.lua).
local function admit(entry, batch, account)
  local counted = counted_fields(entry.id)
  if ACTIVE[counted.state] and end_left_over(entry.id) then counted = counted_fields(entry.id) end
  local state = counted.state
  if ACTIVE[state] then
    attach(entry.id, batch, counted)
    return 'joined'
  end
  if not entry.spec and state ~= 'SUCCESS' then return 'tell' end
  local other = path_owner(entry)
  if other then return 'taken:' .. other end
  if not state then
    create_record(entry, batch, account)
    return 'new'
  end
  local proof = state == 'SUCCESS' and field(entry.id, 'proof')
  if proof and not entry.proof then return 'prove:' .. proof end
  if not entry.spec and proof ~= entry.proof then return 'tell' end
  attach(entry.id, batch, counted)
  if proof and proof == entry.proof then
    mark_present(entry.id, counted.outcome)
    return 'present'
  end
  restart_record(entry, account)
  return 'again'
end
