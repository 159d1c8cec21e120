-- Set the priority and the weight of a batch.
-- ARGV: batch, priority, weight
-- Returns 1 when the priority is new.
local name, level, weight = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local key = batch_key(name)
local before = number(call('HGET', key, 'priority'))
call('HSET', key, 'priority', level, 'weight', weight)
if level == before then return 0 end
for _, account in ipairs(all_accounts()) do
  if call('LREM', ring_key(account, before), 0, name) > 0 then
    call('HDEL', key, 'ringed:' .. account)
    enter_ring(name, account)
  end
end
return 1
