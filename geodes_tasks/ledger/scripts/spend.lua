-- Ask for one request out of the account's quota.
-- ARGV: account, quota count, quota seconds, unique name of the request, download
-- Returns {1, ''} when granted, {0, seconds to wait, left as the portal says} when not.
local account, time = ARGV[1], now()
local key = account_key(account)
local left, reopens = quota_left(account, tonumber(ARGV[2]), tonumber(ARGV[3]), time)
if left < 1 then return { 0, stamp(math.max(reopens - time, 0.001)), '' } end
local probe, told, told_at, period = unpack(redis.call('HMGET', key,
  'probe', 'told', 'told_at', 'told_period'))
local fresh = tonumber(told) and told_at and time - tonumber(told_at) < 3 * tonumber(period)
if fresh and probe ~= ARGV[5] then
  if tonumber(told) < 1 then
    return { 0, stamp(math.max(tonumber(told_at) + tonumber(period) - time, 0.2)), told }
  end
  redis.call('HINCRBY', key, 'told', -1)
end
redis.call('ZADD', key .. ':spent', stamp(time), ARGV[4])
-- Without a window of its own the account remembers only what may be on its way.
if tonumber(ARGV[2]) == 0 then
  redis.call('ZREMRANGEBYSCORE', key .. ':spent', '-inf', stamp(time - 60))
end
return { 1, '', '' }
