-- Take a batch out of the ledger at once; its records go block by block (remove_forgotten.lua).
-- ARGV: batch
local name = ARGV[1]
drop_batch(name)
return redis.status_reply('OK')
