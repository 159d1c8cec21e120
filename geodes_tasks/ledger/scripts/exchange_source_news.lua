-- Record news of sources and hosts, and return what the fleet knows.
-- ARGV: JSON {source: {shun, avoid, why, fleet, offered}}
--   avoid      tried last for so many seconds, where another source has the file too
--   shun, why  out of reach for so many seconds, then one download tries; 0 ends that
--   fleet      true where only the fleet can tell: ignored when the source gave a file within `shun`
--              seconds, as then it is the worker that cannot reach it
--   offered    a worker can use it
-- Returns source, seconds for which it is tried last, why, ... for each.
local news, answer = cjson.decode(ARGV[1]), {}
for source, one in pairs(news) do
  local key = P .. 'source:' .. source
  if one.shun == 0 then
    source_works(source)
  elseif one.shun and not (one.fleet and now - number(call('HGET', key, 'worked')) < one.shun) then
    call('HSET', key, 'until', stamp(now + one.shun), 'why', one.why, 'wait', one.shun,
      'avoid', stamp(now + one.avoid))
  end
  if one.offered then call('HSET', key, 'offered', now_text) end
end
for _, source in ipairs({ 's3', unpack(web_hosts()) }) do
  local avoid_until, why = unpack(call('HMGET', P .. 'source:' .. source, 'avoid', 'why'))
  local rest = math.max(number(avoid_until) - now, 0)
  for _, value in ipairs({ source, stamp(rest), why or '' }) do answer[#answer + 1] = value end
end
return answer
