-- Remove a worker that stops.
-- ARGV: worker
local worker = ARGV[1]
remove_worker(worker)
sum_slots()
return redis.status_reply('OK')
