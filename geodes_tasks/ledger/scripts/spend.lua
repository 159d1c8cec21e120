-- Ask for one request out of the account's quota.
-- ARGV: account, quota count, quota seconds, unique name of the request, download
-- Returns {1, '', '' or asking: others wait for its answer} when granted,
-- {0, seconds to wait, why} when not:
--   why: '' the window of the settings, told: the portal says so, learned: as many as last time,
--        crowd: too many without an answer yet, ask again at once
local account, time = ARGV[1], now()
local key = account_key(account)
local asking = ''
local left, reopens = quota_left(account, tonumber(ARGV[2]), tonumber(ARGV[3]), time)
if left < 1 then return { 0, stamp(math.max(reopens - time, 0.001)), '' } end
local probe, granted, learned, wait = unpack(redis.call('HMGET', key,
  'probe', 'granted', 'learned', 'probe_wait'))
if probe ~= ARGV[5] then
  local told, asked_again = told_left(account, time)
  if told and told < 1 then
    return { 0, stamp(math.max(asked_again - time, 0.2)), 'told' }
  end
  if told then
    if told < 1e9 then redis.call('HINCRBY', key, 'told', -1) end
  elseif learned and number(granted) >= number(learned) then
    -- As many as there were before the last refusal: one tries, before others are wasted.
    redis.call('HSET', key, 'guessed', '1')
    out_of_quota(account, number(wait), time)
    return { 0, wait, 'learned' }
  elseif not learned and number(granted) < TRUSTED and field(ARGV[5], 'token') then
    if unanswered(account) >= WASTED then return { 0, '0.05', 'crowd' } end
    redis.call('HSET', download(ARGV[5]), 'asking', field(ARGV[5], 'token'))
    asking = 'asking'
  end
end
redis.call('HINCRBY', key, 'granted', 1)
redis.call('ZADD', key .. ':spent', stamp(time), ARGV[4])
-- Without a window of its own the account remembers only what may be on its way.
if tonumber(ARGV[2]) == 0 then
  redis.call('ZREMRANGEBYSCORE', key .. ':spent', '-inf', stamp(time - 60))
end
return { 1, '', asking }
