-- Take a batch out of the ledger at once; its records go block by block (remove_forgotten.lua).
-- ARGV: batch, '1' for one with unfinished downloads too
-- Returns 'unknown' | 'unfinished:<how many>' | 'begun'
local name, forced = ARGV[1], ARGV[2] == '1'
if call('EXISTS', batch_key(name)) == 0 then return 'unknown' end
local unfinished = unfinished_in(name)
if unfinished > 0 and not forced then return 'unfinished:' .. unfinished end
drop_batch(name)
return 'begun'
