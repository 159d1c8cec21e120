-- Begin to ask the portal how much quota an account has left, if it is worth a question.
-- ARGV: account, seconds between two questions
-- Returns the time, or nothing.
local account, period = ARGV[1], tonumber(ARGV[2])
local key = account_key(account)
local till, probe, left, asked_at =
  unpack(call('HMGET', key, 'paused_until', 'probe', 'portal_left', 'quota_asked'))
-- Where the portal did not say it before, or has no quota, it is asked again an hour later.
if number(left) < 0 then period = 60 * period end
if till == 'resume' or now - number(asked_at) < period then return false end
if not probe and call('ZCARD', key .. ':leases') == 0 then return false end
call('HSET', key, 'quota_asked', stamp(now))
return stamp(now)
