-- Begin to ask for the files on tape, if it is time and nobody else does.
-- ARGV: account, worker, seconds that the right to ask lasts
-- Returns the downloads to ask for, those that wait longest first; none when there is nothing to do.
local account, worker, time = ARGV[1], ARGV[2], now()
local poll, tape = account_key(account, ':poll'), account_key(account, ':tape')
if redis.call('ZCARD', tape) == 0 then return {} end
local next_time, holder, till = unpack(redis.call('HMGET', poll, 'next', 'holder', 'till'))
if number(next_time) > time then return {} end
if holder and holder ~= worker and number(till) > time then return {} end
if redis.call('HGET', account_key(account), 'paused_until') == 'resume' then return {} end
redis.call('HSET', poll, 'holder', worker, 'till', stamp(time + tonumber(ARGV[3])))
return redis.call('ZRANGE', tape, 0, -1)
