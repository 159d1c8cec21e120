-- Choose what to send messages for now, over all accounts or one.
-- ARGV: account or '', window, concurrent, quota count, quota seconds
local limits, time = limits_from(2), now()
limits.eager = true
local accounts = ARGV[1] ~= '' and { ARGV[1] } or redis.call('SMEMBERS', P .. 'accounts')
local chosen = {}
for _, account in ipairs(accounts) do
  for _, value in ipairs(release(account, limits, time)) do chosen[#chosen + 1] = value end
end
return chosen
