-- The portal says how many requests an account has left.
-- ARGV: account, left, when it was asked, seconds until it is asked again
--   left: -1: it does not say; -2: there is no quota
local account, left, asked = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local key, time, period = account_key(account), now(), tonumber(ARGV[4])
if left < 0 then
  redis.call('HSET', key, 'told', left == -1 and 'none' or 'unlimited', 'told_at', stamp(asked))
  return 0
end
-- What was asked for a moment ago may not be counted there yet.
left = left - redis.call('ZCOUNT', key .. ':spent', stamp(asked - 0.5), '+inf')
redis.call('HSET', key, 'told', math.max(left, 0), 'told_at', stamp(asked), 'told_period', period)
redis.call('HDEL', key, 'guessed')
if left > 0 then
  quota_is_back(account)
else
  -- Asked again before that; should nobody ask any more, a download tries.
  out_of_quota(account, 2 * period, time)
end
return 1
