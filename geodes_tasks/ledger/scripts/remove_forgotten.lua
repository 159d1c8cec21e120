-- Remove the next records of a batch that was forgotten, unless another batch has them too.
-- A private server keeps the stat of each verified file, so that a rerun need not read it.
-- ARGV: name as in `forgotten`, how many, how many to leave out at the head: they stay for now
-- Returns {read, removed, stay for now}
local name, most, first = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local key, removed, stay = P .. 'forgotten:' .. name, 0, 0
local ids = call('ZRANGE', key, first, first + most - 1)

local function remove_record(d)
  add(LEDGER, counter_of(d, LEDGER), -1)
  if call('HGET', P .. 'paths', d.path or '') == d.id then call('HDEL', P .. 'paths', d.path) end
  call('UNLINK', download_key(d.id))
  removed = removed + 1
end

local function keep_stat(d)
  set_batches(d, {})
  clear(d, 'footprint', 'history', 'worker', 'started')
  call('ZADD', P .. 'kept', now_text, d.id)
  removed = removed + 1
end

-- `kept` itself is removed under a name that no batch has: theirs have a colon.
local keeps_stats = is_private() and string.find(name, ':', 1, true)
for _, id in ipairs(ids) do
  local d = record(id)
  end_left_over(d)
  local others = other_batches_of(d)
  if #others == 0 and is_queued(d) then revoke(d) end
  -- Part files are swept first: that needs the record.
  if d.state and #others == 0 and (not ENDED[d.state] or call('ZSCORE', P .. 'litter', id)) then
    stay = stay + 1
  else
    if d.state and #others > 0 then
      hand_over(d, others)
    elseif d.state == 'SUCCESS' and d.proof and keeps_stats then
      keep_stat(d)
    elseif d.state then
      remove_record(d)
    end
    call('ZREM', key, id)
  end
end
if call('EXISTS', key) == 0 then call('SREM', P .. 'forgotten', name) end
return { #ids, removed, stay }
