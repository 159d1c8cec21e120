-- Remove the next records of a batch that was forgotten, unless another batch has them too.
-- A private server keeps the stat of each verified file, so that a rerun need not read it.
-- ARGV: name as in `forgotten`, how many, how many to leave out at the head: they stay for now
-- Returns {read, removed, stay for now}
local name, most, first = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local key, removed, stay = P .. 'forgotten:' .. name, 0, 0
local ids = call('ZRANGE', key, first, first + most - 1)

local function remove(id, state)
  local outcome, path = fields(id, 'outcome', 'path')
  add_total('state:' .. state, -1)
  if state == 'SUCCESS' then add_total('outcome:' .. (outcome or ''), -1) end
  if call('HGET', P .. 'paths', path or '') == id then call('HDEL', P .. 'paths', path) end
  call('UNLINK', download_key(id))
  removed = removed + 1
end

local function keep_stat(id)
  set_batches(id, {})
  call('HDEL', download_key(id), 'footprint', 'history', 'worker', 'started')
  call('ZADD', P .. 'kept', stamp(now()), id)
end

-- `kept` itself is removed under a name that no batch has: theirs have a colon.
local keeps_stats = is_private() and string.find(name, ':', 1, true)
for _, id in ipairs(ids) do
  end_left_over(id)
  local state, proof = fields(id, 'state', 'proof')
  local others = other_batches_of(id)
  -- Part files are swept first: that needs the record.
  if state and #others == 0 and (not ENDED[state] or has_litter(id)) then
    stay = stay + 1
  else
    if state and #others > 0 then
      hand_over(id, state, others)
    elseif state == 'SUCCESS' and proof and keeps_stats then
      keep_stat(id)
    elseif state then
      remove(id, state)
    end
    call('ZREM', key, id)
  end
end
if call('EXISTS', key) == 0 then call('SREM', P .. 'forgotten', name) end
return { #ids, removed, stay }
