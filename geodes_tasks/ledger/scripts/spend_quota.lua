-- Spend one request of the account's own window.
-- ARGV: account, quota count, quota seconds, unique name of the request
-- Returns '' when it is spent, else the seconds until the window moves on.
local account, quota_count, quota_seconds, request = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
local left, reopens = quota_left(account, quota_count, quota_seconds)
if left < 1 then return stamp(math.max(reopens - now, 0.001)) end
call('ZADD', account_key(account, ':spent'), now_text, request)
return ''
