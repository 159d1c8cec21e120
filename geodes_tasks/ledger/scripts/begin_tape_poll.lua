-- Begin to poll for the files on tape, if it is time and no other worker does.
-- ARGV: account, worker, seconds for which a worker may poll alone
-- Returns the downloads to poll for, those that wait longest first; none when there is nothing to do.
local account, worker, seconds, time = ARGV[1], ARGV[2], tonumber(ARGV[3]), now()
local poll, tape = account_key(account, ':poll'), account_key(account, ':tape')
if call('ZCARD', tape) == 0 then return {} end
local next_time, holder, till = unpack(call('HMGET', poll, 'next', 'holder', 'till'))
if number(next_time) > time then return {} end
if holder and holder ~= worker and number(till) > time then return {} end
if call('HGET', account_key(account), 'paused_until') == 'resume' then return {} end
call('HSET', poll, 'holder', worker, 'till', stamp(time + seconds))
return call('ZRANGE', tape, 0, -1)
