-- Remove workers that were not seen for a while; now and then, count the slots of all anew.
-- ARGV: seconds, how many at most, seconds until the slots are counted anew
-- Returns how many were removed.
local seconds, most, count_seconds = tonumber(ARGV[1]), ARGV[2], ARGV[3]
local time, workers = now(), P .. 'workers'
-- No clock of ours writes a time so far ahead.
call('ZREMRANGEBYSCORE', workers, '(' .. stamp(time + 86400), '+inf')
local dead = call('ZRANGEBYSCORE', workers, '-inf', stamp(time - seconds), 'LIMIT', 0, most)
for _, name in ipairs(dead) do remove_worker(name) end
if call('SET', P .. 'slots_counted', '1', 'NX', 'EX', count_seconds) then
  local slots = 0
  for _, name in ipairs(call('ZRANGE', workers, 0, -1)) do
    slots = slots + number(call('HGET', P .. 'worker:' .. name, 'slots'))
  end
  call('SET', P .. 'slots', slots)
end
return #dead
