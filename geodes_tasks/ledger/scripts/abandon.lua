-- Begin anew on a private server: no worker lives, no message is on its way, no batch is kept.
-- What was unfinished is cancelled, so that only what is asked for again goes on; proofs stay.
-- ARGV: names of the broker's keys
local accounts = redis.call('SMEMBERS', P .. 'accounts')
for _, account in ipairs(accounts) do
  for _, level in ipairs(levels_of(account)) do redis.call('DEL', ring_key(account, level)) end
  for _, part in ipairs({ ':leases', ':sent', ':levels', ':poll', ':changes', '' }) do
    redis.call('DEL', account_key(account, part))
  end
end
for _, name in ipairs(redis.call('ZRANGE', P .. 'batches', 0, -1)) do
  for _, id in ipairs(redis.call('ZRANGE', batch_key(name) .. ':downloads', 0, -1)) do
    local state = field(id, 'state')
    if state == 'PENDING' or state == 'STARTED' or state == 'RETRY' then
      move(id, 'REVOKED')
      redis.call('HDEL', download(id), 'cancel')
    end
  end
  redis.call('DEL', batch_key(name), batch_key(name) .. ':downloads')
  living[name] = false
  for _, account in ipairs(accounts) do clear_ready(name, account) end
end
redis.call('DEL', P .. 'batches', P .. 'due', P .. 'workers', P .. 'slots', P .. 'holds')
redis.call('HDEL', P .. 'source:s3', 'until', 'why', 'offered')
for _, name in ipairs(ARGV) do redis.call('DEL', P .. name) end
return redis.status_reply('OK')
