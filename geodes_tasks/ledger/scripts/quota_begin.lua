-- Begin to ask the portal how much quota an account has left, if it is worth a question.
-- ARGV: account, worker, quota count of the settings, seconds between two questions
-- Returns the time, or nothing.
local account, every, time = ARGV[1], tonumber(ARGV[4]), now()
local key = account_key(account)
local paused, probe, told, asked = unpack(redis.call('HMGET', key,
  'paused_until', 'probe', 'told', 'quota_asked'))
if paused == 'resume' or time - number(asked) < every then return false end
-- Where the portal did not say it before, it is asked again an hour later.
if (told == 'none' or told == 'unlimited') and time - number(asked) < 60 * every then return false end
local unsure = probe or tonumber(ARGV[3]) == 0
local busy = probe or redis.call('ZCARD', key .. ':leases') > 0
if not (unsure and busy) then return false end
redis.call('HSET', key, 'quota_asked', stamp(time))
return stamp(time)
