-- Give a batch its priority and its weight. ARGV: batch, priority, weight
local name, level, weight = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local key = batch_key(name)
local before = number(redis.call('HGET', key, 'priority'))
redis.call('HSET', key, 'priority', level, 'weight', weight)
if level == before then return 0 end
for _, account in ipairs(redis.call('SMEMBERS', P .. 'accounts')) do
  if redis.call('LREM', ring_key(account, before), 0, name) > 0 then
    redis.call('HDEL', key, 'ringed:' .. account)
    enter_ring(name, account)
  end
end
return 1
