-- Make downloads ready whose time has come.
-- ARGV: how many at most
-- Returns {woken, 1 when a next call finds more}
local most, woken = tonumber(ARGV[1]), 0
local due = call('ZRANGEBYSCORE', P .. 'due', '-inf', stamp(now()), 'LIMIT', 0, most)
for _, id in ipairs(due) do
  call('ZREM', P .. 'due', id)
  if is_queued(field(id, 'state')) then
    make_ready(id, true)
    woken = woken + 1
  elseif not is_whole(id) then
    end_damaged(id)
  end
end
return { woken, #due == most and 1 or 0 }
