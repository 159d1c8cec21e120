-- Put downloads back whose message is lost. ARGV: account, id, id, ...
-- Returns how many were put back.
local account, put_back = ARGV[1], 0
for index = 2, #ARGV do
  local id = ARGV[index]
  if redis.call('ZREM', account_key(account, ':sent'), id) == 1 then
    local state = field(id, 'state')
    if state == 'PENDING' or state == 'RETRY' then
      make_ready(id, true)
      put_back = put_back + 1
    end
  end
end
return put_back
