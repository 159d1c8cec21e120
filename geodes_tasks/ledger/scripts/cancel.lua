-- Cancel downloads: those not running end here, running ones are told at their next renewal.
-- ARGV: batch or '', id, id, ...   With a batch, what another one asks for too only leaves it.
-- Returns {cancelled now or soon, gone on for another batch}
local batch, cancelled, left = ARGV[1], 0, 0

local function cancel(id, state)
  cancelled = cancelled + 1
  if state == 'STARTED' then
    redis.call('HSET', download(id), 'cancel', '1')
    return
  end
  move(id, 'REVOKED')
  redis.call('HSET', download(id), 'finished', stamp(now()))
  redis.call('ZREM', account_key(field(id, 'account'), ':sent'), id)
  leave_litter(id)
end

for index = 2, #ARGV do
  local id = ARGV[index]
  local state = field(id, 'state')
  if state == 'PENDING' or state == 'STARTED' or state == 'RETRY' then
    local others = batch ~= '' and others_of(id, batch) or {}
    if #others == 0 then
      cancel(id, state)
    elseif detach(id, batch) then
      left = left + 1
      hand_over(id, state, others)
    end
  end
end
return { cancelled, left }
