-- Set the priority and the weight of a batch.
-- ARGV: batch, priority, weight
-- Returns 1 when the priority is new.
local name, level, weight = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local before = number(call('HGET', batch_key(name), 'priority'))
call('HSET', batch_key(name), 'priority', level, 'weight', weight)
if level == before then return 0 end
rejoin_rings(name)
return 1
