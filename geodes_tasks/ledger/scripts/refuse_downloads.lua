-- Record what can never be downloaded, so that reports name it.
-- ARGV: batch, account, JSON list of entries {id, spec, error (JSON)}
local batch, account, entries = ARGV[1], ARGV[2], cjson.decode(ARGV[3])
open_batch(batch, account)
for _, entry in ipairs(entries) do
  local d = record(entry.id)
  attach(d, batch)
  if not d.state then
    move(d, 'FAILURE', { spec = entry.spec, path = '', size = 0, account = account, attempts = 0,
      error = entry.error, finished = now_text })
  end
end
return redis.status_reply('OK')
