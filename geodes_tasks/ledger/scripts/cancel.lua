-- Cancel downloads: those not running end here, running ones are told at their next renewal.
-- ARGV: id, id, ...   Returns how many were cancelled now or will be.
local cancelled = 0
for _, id in ipairs(ARGV) do
  local state = field(id, 'state')
  if state == 'PENDING' or state == 'RETRY' then
    move(id, 'REVOKED')
    redis.call('HSET', download(id), 'finished', stamp(now()))
    redis.call('ZREM', account_key(field(id, 'account'), ':sent'), id)
    leave_litter(id)
    cancelled = cancelled + 1
  elseif state == 'STARTED' then
    redis.call('HSET', download(id), 'cancel', '1')
    cancelled = cancelled + 1
  end
end
return cancelled
