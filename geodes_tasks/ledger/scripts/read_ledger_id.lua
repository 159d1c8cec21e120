-- Return the id of this ledger; the first call makes it.
-- ARGV: an id that no other ledger has
local new_id, key = ARGV[1], P .. 'ledger_id'
if call('EXISTS', key) == 0 then
  -- Two writes, so that the append-only file has them as one transaction, like the records: a server
  -- that drops the records at its restart drops the id with them, where a single write would survive.
  call('SET', key, '')
  call('SET', key, new_id)
end
return call('GET', key)
