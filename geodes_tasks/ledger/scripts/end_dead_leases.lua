-- End leases that have run out: the next attempt may begin, unless all are used up.
-- ARGV: how many at most, lease seconds, most attempts,
--   error (JSON, with %d for dead workers and attempts) of a download that used them up
-- Returns {ended, 1 when a next call finds more}
local left, lease_seconds = tonumber(ARGV[1]), tonumber(ARGV[2])
local most_attempts, error_text, ended = tonumber(ARGV[3]), ARGV[4], 0
note_reachable(lease_seconds)
for _, account in ipairs(are_leases_spared() and {} or all_accounts()) do
  local leases = account_key(account, ':leases')
  local dead = call('ZRANGEBYSCORE', leases, '-inf', now_text, 'LIMIT', 0, left)
  for _, id in ipairs(dead) do
    if end_dead_lease(id, leases, most_attempts, error_text) then ended = ended + 1 end
  end
  left = left - #dead
end
return { ended, left == 0 and 1 or 0 }
