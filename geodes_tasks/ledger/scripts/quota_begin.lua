-- Begin to ask the portal how much quota an account has left, if it is worth a question.
-- ARGV: account, seconds between two questions
-- Returns the time, or nothing.
local account, every, time = ARGV[1], tonumber(ARGV[2]), now()
local key = account_key(account)
local till, probe, left, asked = unpack(redis.call('HMGET', key,
  'paused_until', 'probe', 'portal_left', 'quota_asked'))
-- Where the portal did not say it before, or has no quota, it is asked again an hour later.
if number(left) < 0 then every = 60 * every end
if till == 'resume' or time - number(asked) < every then return false end
if not probe and redis.call('ZCARD', key .. ':leases') == 0 then return false end
redis.call('HSET', key, 'quota_asked', stamp(time))
return stamp(time)
