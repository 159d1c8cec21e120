-- End a poll for the files on tape, and set the time of the next one.
-- ARGV: account, worker, first period, longest period, how many files came back
-- Returns 1, or 0 when another worker polls by now.
local account, worker, first, longest, came =
  ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local poll, time = account_key(account, ':poll'), now()
if call('HGET', poll, 'holder') ~= worker then return 0 end
local period = number(call('HGET', poll, 'period'), first)
period = came > 0 and first or math.min(period * 1.5, longest)
call('HSET', poll, 'period', period, 'next', stamp(time + period), 'asked', stamp(time))
call('HDEL', poll, 'holder', 'till')
return 1
