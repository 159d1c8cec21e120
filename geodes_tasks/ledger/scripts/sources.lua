-- Note news of sources, and return what the fleet knows. ARGV: JSON {source: {shun, why, offered}}
--   shun, why  out of reach: not to be tried first for so many seconds; 0 ends that
--   offered    a worker can use it
-- Returns source, seconds it is shunned still, why, ... for each.
local time, answer = now(), {}
for source, news in pairs(cjson.decode(ARGV[1])) do
  local key = P .. 'source:' .. source
  if news.shun == 0 then redis.call('HDEL', key, 'until', 'why') end
  if news.shun and news.shun > 0 then
    redis.call('HSET', key, 'until', stamp(time + news.shun), 'why', news.why)
  end
  if news.offered then redis.call('HSET', key, 'offered', stamp(time)) end
end
for _, source in ipairs({ 's3', 'geodes' }) do
  local till, why = unpack(redis.call('HMGET', P .. 'source:' .. source, 'until', 'why'))
  local rest = number(till) - time
  for _, value in ipairs({ source, stamp(math.max(rest, 0)), why or '' }) do
    answer[#answer + 1] = value
  end
end
return answer
