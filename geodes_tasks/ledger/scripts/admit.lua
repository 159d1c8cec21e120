-- Take a block of downloads into the ledger: all entries of the block or none.
-- ARGV: batch, account, how many values are said of each entry (1, 2 or 7), then for each
--   id
--   proof: empty on the first call; on the second what the caller's stat shows, '-' for nothing
--   path, size, spec (JSON), sources that can serve it: empty for what is likely known already
--   footprint: of the item, with its first entry, '-' for none; kept with the first not refused
-- Returns JSON, one answer an entry: new | joined | again | present | prove:<proof> | taken:<other item>
--   | tell (it is not known well enough: say all of it)
local batch, account = ARGV[1], ARGV[2]

-- The version at the end of a GEODES URN does not make another item.
local function owner_name(spec)
  return string.gsub(spec.item, ':V%d+$', '') .. ' ' .. spec.key
end

-- The item that owns the path already; nil when the path is free for this entry.
local function taken_by(entry)
  local other = redis.call('HGET', P .. 'paths', entry.path or field(entry.id, 'path'))
  if not other or other == entry.id then return nil end
  end_abandoned(other)
  local state = field(other, 'state')
  if not state or state == 'FAILURE' or state == 'REVOKED' then return nil end
  local readable, spec = pcall(cjson.decode, field(other, 'spec') or '')
  if not readable or type(spec) ~= 'table' or not spec.item or not spec.key then return nil end
  local same = owner_name(spec) == owner_name(cjson.decode(entry.spec or field(entry.id, 'spec')))
  if state == 'SUCCESS' and same then return nil end
  return spec.item .. (same and ' (other bytes, still under way)' or '')
end

-- A record comes into being.
local function create(entry)
  local id = entry.id
  refuse_move(id, nil, 'PENDING')
  redis.call('HSET', download(id), 'state', 'PENDING', 'spec', entry.spec, 'path', entry.path,
    'size', entry.size, 'sources', entry.sources, 'account', account, 'attempts', 0, 'batches', batch)
  members[id] = { batch }
  list(id, batch)
  count(id, 'state:PENDING', 1)
  count(id, 'bytes_total', number(entry.size))
  redis.call('HSET', P .. 'paths', entry.path, id)
  redis.call('ZADD', wait_of('PENDING'), stamp(now()), id)
  make_ready(id, false, account, entry.sources)
end

-- A record that ended begins anew.
local function begin(entry)
  local id = entry.id
  -- The catalogue's size once more: after a download the real one stands there.
  count(id, 'bytes_total', number(entry.size) - number(field(id, 'size')))
  redis.call('HSET', download(id), 'spec', entry.spec, 'path', entry.path, 'size', entry.size,
    'sources', entry.sources, 'account', account, 'attempts', 0)
  redis.call('HDEL', download(id), 'error', 'finished', 'started', 'source', 'bytes', 'bytes:s3',
    'bytes:geodes', 'suspect', 'cancel', 'history', 'verified', 'gone', 'offline_since')
  redis.call('HSET', P .. 'paths', entry.path, id)
  move(id, 'PENDING')
  set_done(id, 0)
  make_ready(id)
end

local function admit(entry)
  local it = standing(entry.id)
  if OPEN[it.state or ''] and end_abandoned(entry.id) then it = standing(entry.id) end
  local state = it.state
  if OPEN[state or ''] then
    attach(entry.id, batch, it)
    return 'joined'
  end
  if not entry.spec and state ~= 'SUCCESS' then return 'tell' end
  local other = taken_by(entry)
  if other then return 'taken:' .. other end
  if not state then
    create(entry)
    return 'new'
  end
  local proof = state == 'SUCCESS' and field(entry.id, 'proof')
  if proof and not entry.proof then return 'prove:' .. proof end
  if not entry.spec and proof ~= entry.proof then return 'tell' end
  attach(entry.id, batch, it)
  if proof and proof == entry.proof then
    -- Counted so already, where it was asked for again before: nothing moves.
    if it.outcome ~= 'ALREADY_PRESENT' then
      move(entry.id, 'SUCCESS', nil, 'ALREADY_PRESENT')
    end
    redis.call('HSET', download(entry.id), 'finished', stamp(now()), 'bytes', 0)
    redis.call('HDEL', download(entry.id), 'source', 'bytes:s3', 'bytes:geodes')
    return 'present'
  end
  begin(entry)
  return 'again'
end

local function said(index)
  return ARGV[index] ~= '' and ARGV[index] or nil
end

open_batch(batch, account)
sums = {}
local answers, footprint = {}, '-'
local width = tonumber(ARGV[3])
for first = 4, #ARGV, width do
  local entry = { id = ARGV[first], proof = width > 1 and said(first + 1) or nil }
  if width > 2 then
    entry.path, entry.size, entry.spec = said(first + 2), ARGV[first + 3], said(first + 4)
    entry.sources, footprint = said(first + 5), said(first + 6) or footprint
  end
  local answer = admit(entry)
  answers[#answers + 1] = answer
  if footprint ~= '-' and string.match(answer, '^%l+$') then
    redis.call('HSET', download(entry.id), 'footprint', footprint)
    footprint = '-'
  end
end
tell_sums()
return cjson.encode(answers)
