-- Record news of sources, and return what the fleet knows.
-- ARGV: JSON {source: {shun, why, offered}}
--   shun, why  out of reach: not to be tried first for so many seconds; 0 ends that
--   offered    a worker can use it
-- Returns source, seconds for which it is out of reach, why, ... for each.
local news, time, answer = cjson.decode(ARGV[1]), now(), {}
for source, one in pairs(news) do
  local key = P .. 'source:' .. source
  if one.shun == 0 then call('HDEL', key, 'until', 'why') end
  if one.shun and one.shun > 0 then call('HSET', key, 'until', stamp(time + one.shun), 'why', one.why) end
  if one.offered then call('HSET', key, 'offered', stamp(time)) end
end
for _, source in ipairs({ 's3', 'geodes' }) do
  local till, why = unpack(call('HMGET', P .. 'source:' .. source, 'until', 'why'))
  local rest = math.max(number(till) - time, 0)
  for _, value in ipairs({ source, stamp(rest), why or '' }) do answer[#answer + 1] = value end
end
return answer
