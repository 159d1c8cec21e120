-- What the fleet knows of its sources. ARGV: JSON {source: {bytes, seconds, shun, why, offered}}
--   bytes, seconds  what was fetched, and how long it took: kept as sums that fade
--   shun, why       not to be tried first for so many seconds; 0 ends that
--   offered         a worker can use it
-- Returns source, seconds it is shunned still, why, faded bytes, faded seconds, ... for each.
local HALF_LIFE = 600
local time, answer = now(), {}

local function fade(key)
  local bytes, seconds, at = unpack(redis.call('HMGET', key, 'bytes', 'seconds', 'at'))
  local part = 0.5 ^ ((time - number(at, time)) / HALF_LIFE)
  return number(bytes) * part, number(seconds) * part
end

for source, news in pairs(cjson.decode(ARGV[1])) do
  local key = P .. 'source:' .. source
  if news.seconds then
    local bytes, seconds = fade(key)
    redis.call('HSET', key, 'bytes', string.format('%.0f', bytes + news.bytes),
      'seconds', string.format('%.3f', seconds + news.seconds), 'at', stamp(time))
  end
  if news.shun == 0 then redis.call('HDEL', key, 'until', 'why') end
  if news.shun and news.shun > 0 then
    redis.call('HSET', key, 'until', stamp(time + news.shun), 'why', news.why)
  end
  if news.offered then redis.call('HSET', key, 'offered', stamp(time)) end
end
for _, source in ipairs({ 's3', 'geodes' }) do
  local key = P .. 'source:' .. source
  local bytes, seconds = fade(key)
  local rest = number(redis.call('HGET', key, 'until')) - time
  for _, value in ipairs({ source, stamp(math.max(rest, 0)), redis.call('HGET', key, 'why') or '',
      string.format('%.0f', bytes), string.format('%.3f', seconds) }) do
    answer[#answer + 1] = value
  end
end
return answer
