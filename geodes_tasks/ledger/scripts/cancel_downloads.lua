-- Cancel downloads: those not running end here, running ones stop at their next renewal.
-- ARGV: batch or '', id, id, ...: with a batch, a download of another one too only leaves it.
-- Returns {cancelled now or soon, gone on for another batch}
local batch, cancelled, left = ARGV[1], 0, 0
for index = 2, #ARGV do
  local d = record(ARGV[index])
  if ACTIVE[d.state] and batch ~= '' and (#d.names > 1 or d.names[1] ~= batch) then
    if detach(d, batch) then
      left = left + 1
      hand_over(record(d.id))
    end
  elseif ACTIVE[d.state] then
    cancelled = cancelled + 1
    if d.state == 'STARTED' then
      set(d, { cancel = 1 })
    else
      call('ZREM', account_key(d.account, ':sent'), d.id)
      revoke(d)
    end
  end
end
return { cancelled, left }
