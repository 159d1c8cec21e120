-- End a poll for the files on tape, and set the time of the next one.
-- ARGV: account, worker, first period, longest period, how many files came back
-- Returns 1, or 0 when another worker polls by now.
local account, worker, first, longest, came =
  ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local poll = account_key(account, ':poll')
local holder, period = unpack(call('HMGET', poll, 'holder', 'period'))
if holder ~= worker then return 0 end
period = came > 0 and first or math.min(number(period, first) * 1.5, longest)
call('HSET', poll, 'period', period, 'next', stamp(now + period), 'asked', now_text)
call('HDEL', poll, 'holder', 'till')
return 1
