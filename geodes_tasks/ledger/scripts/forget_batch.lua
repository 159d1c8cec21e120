-- Take a batch out of the ledger at once; its records go block by block (remove_forgotten.lua).
-- ARGV: batch, '1' for one with unfinished downloads too
-- Returns 'unknown' | 'unfinished:<how many>' | 'begun'
local name, forced = ARGV[1], ARGV[2] == '1'
if call('EXISTS', batch_key(name)) == 0 then return 'unknown' end
local unfinished = 0
for state in pairs(ACTIVE) do
  unfinished = unfinished + number(call('HGET', batch_key(name), 'state:' .. state))
end
if unfinished > 0 and not forced then return 'unfinished:' .. unfinished end
for _, account in ipairs(all_accounts()) do
  for _, level in ipairs(levels_of(account)) do call('LREM', ring_key(account, level), 0, name) end
end
put_aside(name, 'forgotten')
call('HDEL', P .. 'holds', 'batch:' .. name)
return 'begun'
