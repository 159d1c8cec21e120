-- Record that a worker lives, and choose the one that recovers for all.
-- ARGV: worker, slots, version, lease seconds, milliseconds for which the choice holds
-- Returns 1 when this worker is to recover now.
local worker, slots, version, lease_seconds, turn =
  ARGV[1], tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4]), ARGV[5]
note_reachable(lease_seconds)
call('ZADD', P .. 'workers', now_text, worker)
call('HSET', P .. 'worker:' .. worker, 'version', version)
if number(call('HGET', P .. 'slots_of', worker), -1) ~= slots then
  call('HSET', P .. 'slots_of', worker, slots)
  sum_slots()
end
if not call('SET', P .. 'recoverer', worker, 'NX', 'PX', turn) then
  local recoverer = call('GET', P .. 'recoverer')
  -- One that has stopped is no worker any more, one that died is replaced when the key expires.
  if recoverer ~= worker and call('ZSCORE', P .. 'workers', recoverer or '') then return 0 end
  call('SET', P .. 'recoverer', worker, 'PX', turn)
end
return 1
