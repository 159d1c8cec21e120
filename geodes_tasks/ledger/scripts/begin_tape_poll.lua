-- Begin to poll for the files on tape, if it is time and no other worker does.
-- ARGV: account, worker, seconds for which a worker may poll alone
-- Returns 1 when this worker is to poll now.
local account, worker, seconds = ARGV[1], ARGV[2], tonumber(ARGV[3])
local poll = account_key(account, ':poll')
local next_time, holder, till = unpack(call('HMGET', poll, 'next', 'holder', 'till'))
if call('EXISTS', account_key(account, ':tape')) == 0 or number(next_time) > now
    or (holder and holder ~= worker and number(till) > now)
    or call('HGET', account_key(account), 'paused_until') == 'resume' then
  return 0
end
call('HSET', poll, 'holder', worker, 'till', stamp(now + seconds))
return 1
