-- Remove the next records of a batch that was forgotten, unless another batch has them too.
-- A private server keeps the stat of each verified file, so that a rerun need not read it.
-- ARGV: name as in `forgotten`, how many, the time when the caller began: those that stay for now go to
--   the end, with the time
-- Returns {read, removed, stay for now}
local name, most, began = ARGV[1], ARGV[2], ARGV[3]
local key, removed, stay = P .. 'forgotten:' .. name, 0, 0
local ids = call('ZRANGEBYSCORE', key, '-inf', '(' .. began, 'LIMIT', 0, most)

-- `kept` itself is removed under a name that no batch has: theirs have a colon.
local keeps_stats = is_private and string.find(name, ':', 1, true)
for _, id in ipairs(ids) do
  local d = record(id)
  end_left_over(d)
  local is_wanted = #d.names > 0
  if is_queued(d) and not is_wanted then revoke(d) end
  -- Part files are swept first: that needs the record.
  if d.state and not is_wanted and (not ENDED[d.state] or call('ZSCORE', P .. 'litter', id)) then
    stay = stay + 1
    call('ZADD', key, began, id)
  else
    call('ZREM', key, id)
    if d.state and is_wanted then
      hand_over(d)
    elseif d.state then
      removed = removed + 1
      if d.state == 'SUCCESS' and d.proof and keeps_stats then
        set_batches(d, {})
        clear(d, 'footprint', 'history', 'worker', 'started')
        call('ZADD', P .. 'kept', now_text, id)
      else
        add(LEDGER, counter_of(d, LEDGER), -1)
        if call('HGET', P .. 'paths', d.path or '') == id then call('HDEL', P .. 'paths', d.path) end
        call('UNLINK', d.key)
      end
    end
  end
end
if call('EXISTS', key) == 0 then call('SREM', P .. 'forgotten', name) end
return { #ids, removed, stay }
