-- Put a batch into the rings of its accounts anew: its priority, its pause or a ring was changed.
-- ARGV: batch
local name = ARGV[1]
local own = call('HGET', batch_key(name), 'account')
if own then call('SADD', P .. 'accounts', own) end
for _, account in ipairs(all_accounts()) do
  call('ZREM', account_key(account, ':ring'), name)
  if has_ready(name, account) then enter_ring(name, account) end
end
return redis.status_reply('OK')
