-- Record which batches are over: hooks take them from `over`, and their age counts from now.
-- ARGV: how many open batches to visit, of all that are open
local most = tonumber(ARGV[1])
for _, name in ipairs(call('SRANDMEMBER', P .. 'open', most)) do
  local total, admitting = unpack(call('HMGET', batch_key(name), 'total', 'admitting'))
  if number(total) > 0 and number(admitting) < now and unfinished_in(name) <= 0 then note_end(name) end
end
return redis.status_reply('OK')
