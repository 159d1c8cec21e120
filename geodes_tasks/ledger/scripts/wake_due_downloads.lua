-- Make downloads ready whose time has come.
-- ARGV: how many at most
-- Returns {woken, 1 when a next call finds more}
local most, woken = tonumber(ARGV[1]), 0
local due = call('ZRANGEBYSCORE', P .. 'due', '-inf', now_text, 'LIMIT', 0, most)
for _, id in ipairs(due) do
  local d = record(id)
  call('ZREM', P .. 'due', id)
  if is_queued(d) then woken = woken + 1 end
  if is_queued(d) or not is_whole(d) then make_ready(d, true) end
end
return { woken, #due == most and 1 or 0 }
