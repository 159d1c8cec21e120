-- Remove workers that were not seen for a while.
-- ARGV: seconds, how many at most
-- Returns how many were removed.
local seconds, most = tonumber(ARGV[1]), ARGV[2]
local workers = P .. 'workers'
-- No clock of ours writes a time so far ahead.
call('ZREMRANGEBYSCORE', workers, '(' .. stamp(now + 86400), '+inf')
local dead = call('ZRANGEBYSCORE', workers, '-inf', stamp(now - seconds), 'LIMIT', 0, most)
for _, name in ipairs(dead) do
  call('DEL', P .. 'worker:' .. name)
  call('HDEL', P .. 'slots_of', name)
  call('ZREM', workers, name)
end
sum_slots()
return #dead
