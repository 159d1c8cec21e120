-- Ask for one request out of the account's quota.
-- ARGV: account, quota count, quota seconds, unique name of the request
-- Returns {1, ''} when granted, {0, seconds to wait} when the window is used up.
local account, time = ARGV[1], now()
local left, reopens = quota_left(account, tonumber(ARGV[2]), tonumber(ARGV[3]), time)
if left < 1 then return { 0, stamp(math.max(reopens - time, 0.001)) } end
redis.call('ZADD', account_key(account, ':spent'), stamp(time), ARGV[4])
return { 1, '' }
