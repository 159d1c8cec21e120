-- All files on tape have been asked for: give the right to ask back, and say when it goes on.
-- ARGV: account, worker, first period, longest period, how many came back
local account, time = ARGV[1], now()
local poll = account_key(account, ':poll')
if redis.call('HGET', poll, 'holder') ~= ARGV[2] then return 0 end
local first, longest = tonumber(ARGV[3]), tonumber(ARGV[4])
local period = number(redis.call('HGET', poll, 'period'), first)
period = tonumber(ARGV[5]) > 0 and first or math.min(period * 1.5, longest)
redis.call('HSET', poll, 'period', period, 'next', stamp(time + period), 'asked', stamp(time))
redis.call('HDEL', poll, 'holder', 'till')
return 1
