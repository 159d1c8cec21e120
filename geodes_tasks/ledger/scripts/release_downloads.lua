-- Choose what to send messages for now, of all accounts or one.
-- ARGV: account or '', window, concurrent, quota count, quota seconds
-- Returns {'1' when a next call finds more, id, spec, id, spec, ...}
local only, limits, answer = ARGV[1], limits_from(2), { '' }
for _, account in ipairs(only ~= '' and { only } or all_accounts()) do
  local chosen, more = release(account, limits)
  for _, value in ipairs(chosen) do answer[#answer + 1] = value end
  if more then answer[1] = '1' end
end
return answer
