-- Put downloads back whose message is lost. ARGV: account, seconds, id, id, ...
--   seconds: what was sent later than so long ago is on its way again, thanks to another worker
-- Returns how many were put back.
local account, latest, put_back = ARGV[1], now() - tonumber(ARGV[2]), 0
for index = 3, #ARGV do
  local id = ARGV[index]
  local sent = redis.call('ZSCORE', account_key(account, ':sent'), id)
  if sent and number(sent) <= latest then
    redis.call('ZREM', account_key(account, ':sent'), id)
    local state = field(id, 'state')
    if state == 'PENDING' or state == 'RETRY' then
      make_ready(id, true)
      put_back = put_back + 1
    end
  end
end
return put_back
