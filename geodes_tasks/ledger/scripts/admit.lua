-- Take a block of downloads into the ledger: all entries of the block or none.
-- ARGV: batch, account, JSON list of entries {id, path, size, spec, proof, footprint}
--   proof: absent on the first call; on the second what the caller's stat shows, '-' for nothing.
--   footprint: of the item, with its first entry; kept with the first that is not refused.
--   path, size, spec, footprint: absent for what is likely known already.
-- Returns one answer an entry: new | joined | again | present | prove:<proof> | taken:<other item>
--   | tell (it is not known well enough: say all of it)
local batch, account = ARGV[1], ARGV[2]
local entries = cjson.decode(ARGV[3])
local time = now()

-- The version at the end of a GEODES URN does not make another item.
local function owner_name(spec)
  return string.gsub(spec.item, ':V%d+$', '') .. ' ' .. spec.key
end

-- The item that owns the path already; nil when the path is free for this entry.
local function taken_by(entry)
  local other = redis.call('HGET', P .. 'paths', entry.path or field(entry.id, 'path'))
  if not other or other == entry.id then return nil end
  local state = field(other, 'state')
  if not state or state == 'FAILURE' or state == 'REVOKED' then return nil end
  local spec = cjson.decode(field(other, 'spec'))
  local same = owner_name(spec) == owner_name(cjson.decode(entry.spec or field(entry.id, 'spec')))
  if state == 'SUCCESS' and same then return nil end
  return spec.item .. (same and ' (other bytes, still under way)' or '')
end

local function begin(entry)
  -- The catalogue's size once more: after a download the real one stands there.
  count(entry.id, 'bytes_total', string.format('%.0f', entry.size - (field(entry.id, 'size') or 0)))
  redis.call('HSET', download(entry.id), 'spec', entry.spec, 'path', entry.path,
    'size', string.format('%.0f', entry.size), 'account', account, 'attempts', 0)
  redis.call('HDEL', download(entry.id), 'error', 'finished', 'started', 'source', 'bytes',
    'bytes:s3', 'bytes:geodes', 'suspect', 'cancel', 'history', 'verified', 'gone', 'offline_since', 's3')
  redis.call('HSET', P .. 'paths', entry.path, entry.id)
  move(entry.id, 'PENDING')
  set_done(entry.id, 0)
  make_ready(entry.id)
end

local function admit(entry)
  local state = field(entry.id, 'state')
  if state == 'PENDING' or state == 'STARTED' or state == 'RETRY' then
    attach(entry.id, batch, state)
    return 'joined'
  end
  if not entry.spec and state ~= 'SUCCESS' then return 'tell' end
  local other = taken_by(entry)
  if other then return 'taken:' .. other end
  if not state then
    redis.call('HSET', download(entry.id), 'size', string.format('%.0f', entry.size))
    attach(entry.id, batch, nil)
    total('bytes_total', string.format('%.0f', entry.size))
    begin(entry)
    return 'new'
  end
  local proof = state == 'SUCCESS' and field(entry.id, 'proof')
  if proof and not entry.proof then return 'prove:' .. proof end
  if not entry.spec and proof ~= entry.proof then return 'tell' end
  attach(entry.id, batch, state)
  if proof and proof == entry.proof then
    -- Counted so already, where it was asked for again before: nothing moves.
    if field(entry.id, 'outcome') ~= 'ALREADY_PRESENT' then
      move(entry.id, 'SUCCESS', nil, 'ALREADY_PRESENT')
    end
    redis.call('HSET', download(entry.id), 'finished', stamp(time), 'bytes', 0)
    redis.call('HDEL', download(entry.id), 'source', 'bytes:s3', 'bytes:geodes')
    return 'present'
  end
  begin(entry)
  return 'again'
end

open_batch(batch, account)
local answers, footprint = {}, ''
for index, entry in ipairs(entries) do
  answers[index] = admit(entry)
  footprint = entry.footprint or footprint
  if footprint ~= '' and string.match(answers[index], '^%l+$') then
    redis.call('HSET', download(entry.id), 'footprint', footprint)
    footprint = ''
  end
end
return answers
