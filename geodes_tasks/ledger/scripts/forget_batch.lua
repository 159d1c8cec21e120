-- Take a batch out of the ledger at once; its records go block by block (remove_forgotten.lua).
-- ARGV: batch, '1' for one with unfinished downloads too
-- Returns 'unknown' | 'unfinished:<how many>' | 'begun'
local name, forced, key = ARGV[1], ARGV[2] == '1', batch_key(ARGV[1])
if call('EXISTS', key) == 0 then return 'unknown' end
local unfinished = 0
for state in pairs(ACTIVE) do unfinished = unfinished + number(call('HGET', key, 'state:' .. state)) end
if unfinished > 0 and not forced then return 'unfinished:' .. unfinished end
-- What is left of an earlier batch of this name keeps a name of its own.
local rest = name .. ':' .. stamp(now())
if call('EXISTS', key .. ':downloads') == 1 then
  call('RENAME', key .. ':downloads', P .. 'forgotten:' .. rest)
  call('SADD', P .. 'forgotten', rest)
end
for _, account in ipairs(all_accounts()) do
  clear_ready(name, account)
  for _, level in ipairs(levels_of(account)) do call('LREM', ring_key(account, level), 0, name) end
end
call('UNLINK', key, errors_key(name))
call('ZREM', P .. 'batches', name)
call('HDEL', P .. 'holds', 'batch:' .. name)
return 'begun'
