-- Take a batch out of the ledger at once; its records go block by block (forget.lua).
-- ARGV: batch, '1' for one with unfinished downloads too
-- Returns 'unknown' | 'unfinished:<how many>' | 'begun'
local name, key = ARGV[1], batch_key(ARGV[1])
if redis.call('EXISTS', key) == 0 then return 'unknown' end
local unfinished = 0
for _, state in ipairs({ 'PENDING', 'STARTED', 'RETRY' }) do
  unfinished = unfinished + number(redis.call('HGET', key, 'state:' .. state))
end
if unfinished > 0 and ARGV[2] ~= '1' then return 'unfinished:' .. unfinished end
-- What is left of an earlier batch of this name keeps a name of its own.
local rest = name .. ':' .. stamp(now())
if redis.call('EXISTS', key .. ':downloads') == 1 then
  redis.call('RENAME', key .. ':downloads', P .. 'forgotten:' .. rest)
  redis.call('SADD', P .. 'forgotten', rest)
end
for _, account in ipairs(redis.call('SMEMBERS', P .. 'accounts')) do
  clear_ready(name, account)
  for _, level in ipairs(levels_of(account)) do
    redis.call('LREM', ring_key(account, level), 0, name)
  end
end
redis.call('UNLINK', key)
redis.call('ZREM', P .. 'batches', name)
redis.call('HDEL', P .. 'holds', 'batch:' .. name)
return 'begun'
