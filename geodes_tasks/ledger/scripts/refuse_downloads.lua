-- Record what can never be downloaded, so that reports name it.
-- ARGV: batch, account, JSON list of entries {id, spec, error (JSON)}
local batch, account, entries = ARGV[1], ARGV[2], cjson.decode(ARGV[3])
open_batch(batch, account)
for _, entry in ipairs(entries) do
  local counted = counted_fields(entry.id)
  attach(entry.id, batch, counted)
  if not counted.state then move(entry.id, 'FAILURE') end
  set_fields(entry.id, 'spec', entry.spec, 'path', '', 'size', 0, 'account', account, 'attempts', 0,
    'finished', stamp(now()))
  set_error(entry.id, 'FAILURE', entry.error)
end
return redis.status_reply('OK')
