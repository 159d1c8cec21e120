-- Record what can never be downloaded, so that reports name it.
-- ARGV: batch, account, JSON list of entries {id, spec, error (JSON)}
local batch, account = ARGV[1], ARGV[2]
open_batch(batch, account)
for _, entry in ipairs(cjson.decode(ARGV[3])) do
  local it = standing(entry.id)
  attach(entry.id, batch, it)
  if not it.state then move(entry.id, 'FAILURE') end
  redis.call('HSET', download(entry.id), 'spec', entry.spec, 'path', '', 'size', 0,
    'account', account, 'attempts', 0, 'error', entry.error, 'finished', stamp(now()))
end
return redis.status_reply('OK')
