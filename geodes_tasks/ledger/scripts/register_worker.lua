-- Record that a worker lives, and choose the one that recovers for all.
-- ARGV: worker, slots, version, lease seconds, milliseconds for which the choice holds
-- Returns {1 when this worker is to recover now, seconds by which the clock was set back since a
--   worker registered last}
local worker, slots, version, lease_seconds, turn =
  ARGV[1], tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4]), ARGV[5]
local last, recoverer = number(call('GET', P .. 'looked')), P .. 'recoverer'
local set_back = last > now + 1 and last - now or 0
call('SET', P .. 'looked', now_text)
-- None for a while: Redis was out of reach, so that no lease could be renewed either. Two seconds at
-- least: workers register each half second where leases are short.
if last > 0 and now - last > math.max(lease_seconds / 2, 2) then
  call('SET', P .. 'settles', stamp(now + 3))
end
call('ZADD', P .. 'workers', now_text, worker)
call('HSET', P .. 'worker:' .. worker, 'version', version)
if number(call('HGET', P .. 'slots_of', worker), -1) ~= slots then
  call('HSET', P .. 'slots_of', worker, slots)
  local sum = 0
  for _, one in ipairs(call('HVALS', P .. 'slots_of')) do sum = sum + number(one) end
  call('SET', P .. 'slots', sum)
end
-- It would expire that much later.
if set_back > 0 then call('DEL', recoverer) end
local chosen = call('GET', recoverer) or worker
-- One that has stopped is no worker any more, one that died is replaced when the key expires.
if chosen ~= worker and call('ZSCORE', P .. 'workers', chosen) then return { 0, stamp(set_back) } end
call('SET', recoverer, worker, 'PX', turn)
return { 1, stamp(set_back) }
