-- Return the id of this ledger; the first call makes it.
-- ARGV: an id that no other ledger has
local key = P .. 'ledger_id'
if redis.call('EXISTS', key) == 0 then
  -- Two writes, so that the append-only file has them as one transaction, like the records: a server
  -- that drops the records at its restart drops the id with them, where a single write would survive.
  redis.call('SET', key, '')
  redis.call('SET', key, ARGV[1])
end
return redis.call('GET', key)
