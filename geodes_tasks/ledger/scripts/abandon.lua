-- Begin a new run on a private server: no worker lives, no message is on its way, no batch is kept.
-- Visits no download: what earlier runs left unfinished ends block by block (end_abandoned.lua), or
-- when the new run enqueues it again (admit.lua). Until then nothing can start it. Proofs stay.
-- ARGV: keys to remove beside those that are named here
local accounts = redis.call('SMEMBERS', P .. 'accounts')
for _, account in ipairs(accounts) do
  for _, level in ipairs(levels_of(account)) do redis.call('UNLINK', ring_key(account, level)) end
  for _, part in ipairs({ ':leases', ':sent', ':levels', ':tape', ':poll', ':changes', '' }) do
    redis.call('UNLINK', account_key(account, part))
  end
end
for _, name in ipairs(redis.call('ZRANGE', P .. 'batches', 0, -1)) do
  local key = batch_key(name)
  if redis.call('EXISTS', key .. ':downloads') == 1 then
    -- A later run may have a batch of the same name, and be interrupted too.
    local rest = name .. ':' .. stamp(now())
    redis.call('RENAME', key .. ':downloads', P .. 'abandoned:' .. rest)
    redis.call('SADD', P .. 'abandoned', rest)
  end
  redis.call('UNLINK', key)
  for _, account in ipairs(accounts) do clear_ready(name, account) end
end
for _, name in ipairs({ 'batches', 'due', 'workers', 'slots', 'holds' }) do
  redis.call('UNLINK', P .. name)
end
redis.call('HDEL', P .. 'source:s3', 'until', 'why', 'offered')
for _, name in ipairs(ARGV) do redis.call('UNLINK', P .. name) end
return redis.call('SCARD', P .. 'abandoned')
