-- Cancel downloads: those not running end here, running ones stop at their next renewal.
-- ARGV: batch or '', id, id, ...: with a batch, a download of another one too only leaves it.
-- Returns {cancelled now or soon, gone on for another batch}
local batch, cancelled, left = ARGV[1], 0, 0

for index = 2, #ARGV do
  local id = ARGV[index]
  local state = field(id, 'state')
  local others = ACTIVE[state] and batch ~= '' and other_batches_of(id, batch) or {}
  if #others > 0 then
    if detach(id, batch) then
      left = left + 1
      hand_over(id, state, others)
    end
  elseif ACTIVE[state] then
    cancelled = cancelled + 1
    if state == 'STARTED' then
      set_fields(id, 'cancel', '1')
    else
      call('ZREM', account_key(field(id, 'account'), ':sent'), id)
      revoke(id)
    end
  end
end
return { cancelled, left }
