-- Take a batch out of the ledger at once; its records go block by block (remove_forgotten.lua).
-- ARGV: batch, how many of its downloads may be unfinished
-- Returns 0 when more are: downloads came meanwhile
local name, most = ARGV[1], number(ARGV[2])
if unfinished_in(name) > most then return 0 end
drop_batch(name)
return 1
