-- Choose what to send messages for now, over all accounts or one.
-- ARGV: account or '', window, concurrent, quota count, quota seconds
-- Returns {'1' when a next call would find more, id, spec, id, spec, ...}
local limits, time = limits_from(2), now()
limits.eager = true
local accounts = ARGV[1] ~= '' and { ARGV[1] } or redis.call('SMEMBERS', P .. 'accounts')
local answer = { '' }
for _, account in ipairs(accounts) do
  local chosen, more = release(account, limits, time)
  for _, value in ipairs(chosen) do answer[#answer + 1] = value end
  if more then answer[1] = '1' end
end
return answer
