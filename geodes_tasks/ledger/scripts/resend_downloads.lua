-- Make downloads ready again whose message is lost.
-- ARGV: account, seconds, id, id, ...
--   seconds: what was sent later than so long ago is on its way again, thanks to another worker
-- Returns how many were made ready.
local account, latest, made_ready = ARGV[1], now - tonumber(ARGV[2]), 0
local sent = account_key(account, ':sent')
for index = 3, #ARGV do
  local sent_at, d = call('ZSCORE', sent, ARGV[index]), record(ARGV[index])
  if sent_at and number(sent_at) <= latest then
    call('ZREM', sent, d.id)
    if is_queued(d) then
      make_ready(d, true)
      made_ready = made_ready + 1
    end
  end
end
return made_ready
