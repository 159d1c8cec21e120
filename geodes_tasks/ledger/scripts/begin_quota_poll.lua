-- Begin to ask the portal how much quota an account has left, if it is worth a question.
-- ARGV: account, seconds between two questions
-- Returns the time, or nothing.
local account, period = ARGV[1], tonumber(ARGV[2])
local a = load_account(account)
-- Where the portal did not say it before, or has no quota, it is asked again an hour later.
if number(a.portal_left) < 0 then period = 60 * period end
if a.paused_until == 'resume' or now - number(a.quota_asked) < period then return false end
if not a.probe and call('ZCARD', a.key .. ':leases') == 0 then return false end
set(a, { quota_asked = now_text })
return now_text
